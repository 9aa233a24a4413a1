"""Training: epochs, order, validation, stopping, best weights, callbacks, reports."""
