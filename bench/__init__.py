"""Measures Chargly on the machine it runs on: `python -m bench`. All traffic stays on 127.0.0.1."""
