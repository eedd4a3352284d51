package main

import (
	"fmt"
	"text/tabwriter"
	"time"
)

type peerRequestsCommand struct {
	siteFlags `embed:""`
	JSON      bool `help:"Print one JSON object a line."`
}

// Help explains more than fits a line.
func (peerRequestsCommand) Help() string {
	return "Anybody may ask for our key and bring one along, in anybody's name. Nobody is trusted by that: jumpgate peer accept asks the site itself."
}

// The kinds of requests.
const (
	kindNewPeer = "new-peer"
	kindNewKey  = "new-key" // of a peer
)

// requestLine is a line of the list.
type requestLine struct {
	Wwwroot     string `json:"wwwroot"`
	Kind        string `json:"kind"`
	Application string `json:"application"` // as far as the call tells
	Fingerprint string `json:"fingerprint"`
	Asked       string `json:"asked"` // RFC 3339
	Address     string `json:"address"`
}

// Run lists the requests, newest first.
func (c peerRequestsCommand) Run(t *terminal) error {
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	requests, err := d.requests(t.ctx)
	if err != nil {
		return err
	}
	var lines []requestLine
	for _, r := range requests {
		kind := kindNewPeer
		if r.NewKey {
			kind = kindNewKey
		}
		lines = append(lines, requestLine{r.Wwwroot.String(), kind, string(r.Application),
			r.Certificate.Fingerprint().String(), r.Asked.Format(time.RFC3339), r.Addr.String()})
	}
	if c.JSON {
		return writeJSON(t.stdout, lines)
	}
	w := tabwriter.NewWriter(t.stdout, 0, 0, 3, ' ', 0)
	for _, l := range lines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\tfrom %s\n", l.Wwwroot, l.Kind, l.Application, l.Fingerprint, l.Asked, l.Address)
	}
	return w.Flush()
}
