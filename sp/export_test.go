package sp

// UsedForTest returns how many sessions are noted as in use.
func UsedForTest(v *Visits) int { return len(v.used.take()) }

// RedrawForTest draws a picture anew.
var RedrawForTest = redraw
