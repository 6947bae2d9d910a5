"""runtime/emulator."""
