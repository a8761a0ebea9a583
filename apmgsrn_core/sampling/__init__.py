"""Trained models as volumes: values, derivatives, regions, errors."""
