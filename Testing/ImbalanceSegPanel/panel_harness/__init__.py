"""What the panel needs of the application, put together from PySide6 and stand-ins."""
