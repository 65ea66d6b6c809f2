"""The compared servers, one program each. They echo, or send each message to all, with the settings for most speed."""
