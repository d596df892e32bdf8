"""The container engine: an interface, the real thing behind it, and nothing of irkit's own business."""
