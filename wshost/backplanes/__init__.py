"""What carries published messages between the hosts of one process, or of many."""
