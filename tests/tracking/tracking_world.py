"""What the tiny finished training of these tests holds."""

CLASSES = ["NA", "rose", "café au lait"]
SCORES = {"accuracy": 0.75, "mean_per_class_accuracy": 0.7, "log_loss": 0.9, "macro_f1": 0.69}
HISTORY = [
    {
        "epoch": epoch,
        "phase": "head" if epoch < 3 else "fine_tune",
        "learning_rate": 0.001,
        "loss": 1.5 - epoch / 10,
        "accuracy": 0.5 + epoch / 10,
        "val_loss": 1.6 - epoch / 10,
        "val_accuracy": 0.4 + epoch / 10,
        "val_mean_per_class_accuracy": 0.3 + epoch / 10,
    }
    for epoch in range(4)
]
