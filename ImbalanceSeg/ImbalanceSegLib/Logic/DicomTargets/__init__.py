"""Places where a DICOM file may go."""
