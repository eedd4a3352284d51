package main

import (
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"
)

type mnetLogCommand struct {
	siteFlags `embed:""`
	Last      int    `short:"n" default:"100" placeholder:"N" help:"How many records, the newest last (100)."`
	JSON      bool   `help:"Print one JSON object a line."`
	Peer      string `arg:"" help:"The peer's address."`
}

// Run prints the last records of a peer, in the order in which they came.
func (c mnetLogCommand) Run(t *terminal) error {
	if c.Last < 1 {
		return &usageError{"-n: it is not a number above nought", "leave it out, or say how many records to show"}
	}
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	peer, err := d.peer(c.Peer)
	if err != nil {
		return err
	}
	state, err := d.shared()
	if err != nil {
		return err
	}
	records, err := state.Log(t.ctx, peer.Wwwroot, c.Last)
	if err != nil {
		return withHint(err, "see that the Redis of the configuration runs, and that it lets the gateway in")
	}
	if c.JSON {
		return writeJSON(t.stdout, records)
	}
	if len(records) == 0 {
		_, err = fmt.Fprintf(t.stdout, "%s has reported nothing\n", peer.Wwwroot)
		return err
	}
	w := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TIME\tLEARNER\tFROM\tCOURSE\tMODULE\tACTION\tPAGE\tINFO")
	for _, r := range records {
		fmt.Fprint(w, time.Unix(r.Time, 0).UTC().Format(time.RFC3339))
		// Quoted, since a terminal must not obey what a peer sent.
		for _, text := range []string{r.Username, r.IP, r.Course, r.Module, r.Action, r.URL, r.Info} {
			fmt.Fprint(w, "\t", strconv.QuoteToGraphic(text))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
