"""What a run's folder says: tables, contrasts, verdict, figures and page, made from the folder alone."""
