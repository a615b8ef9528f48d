"""What people see: pictures, reports, the first run."""
