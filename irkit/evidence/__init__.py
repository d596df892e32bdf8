"""Evidence bundles: written once, streaming, signed, and verifiable without irkit (docs/verify-by-hand.md)."""
