"""What users have written, found and imported: modules, handlers. Nothing here runs it afterwards."""
