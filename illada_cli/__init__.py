"""What a person sees of illada: options, streams, exit codes. No maths."""
