"""How fast, how late: one runnable script per question. README.md lists them and says how each figure is measured."""
