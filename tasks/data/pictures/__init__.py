"""Pictures of any kind and size → images as a network was trained on. Needs no Prefect."""
