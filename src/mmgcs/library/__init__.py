"""Media libraries: folders of films with NFO files, scanned, tagged and restored."""
