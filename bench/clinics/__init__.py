"""What makes the patients of the notebooks' clinics, kept in data/clinic: python -m bench.clinics NAME."""
