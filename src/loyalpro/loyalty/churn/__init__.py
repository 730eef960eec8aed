"""How likely customers are to buy again, and which of them are at risk of leaving. Pure decisions."""
