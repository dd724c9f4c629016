"""digitflow: a retraining pipeline for digit classifiers, in NumPy on Prefect."""
