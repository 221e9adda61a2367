"""What makes the site of the documentation: reference tables from the registries, and screenshots of real pages."""
