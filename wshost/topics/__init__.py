"""Who has subscribed to what, and what a turn of the reactor brings them. No protocol, and no broker."""
