"""Every op against its formula in float64: `cases` lists the rows, `oracle` computes what is right,
`runner` compares, `report` tells. The command is `dlcore check`.
"""
