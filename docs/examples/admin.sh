# Does the process live? Does it let clients in?
curl -sS --unix-socket /run/chat/admin.sock http://localhost/healthz
curl -sS --unix-socket /run/chat/admin.sock http://localhost/readyz
# What Prometheus reads.
curl -sS --unix-socket /run/chat/admin.sock http://localhost/metrics
# The connections, ten at a time; one of them; and its end.
curl -sS --unix-socket /run/chat/admin.sock 'http://localhost/connections?limit=10&after=c0'
curl -sS --unix-socket /run/chat/admin.sock http://localhost/connections/c1
curl -sS --unix-socket /run/chat/admin.sock -X DELETE 'http://localhost/connections/c1?code=4000&reason=bye'
