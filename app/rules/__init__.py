"""The rules of money and of prices: pure functions, without I/O, clock or chance."""
