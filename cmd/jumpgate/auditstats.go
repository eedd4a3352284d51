package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"jumpgate/gateway/audit"
)

type auditStatsCommand struct {
	trailFlags  `embed:""`
	filterFlags `embed:""`
	JSON        bool `help:"Print one JSON object a line."`
}

// counted is what events are counted by.
type counted struct {
	Day      string `json:"day"`
	Kind     string `json:"kind"`
	Peer     string `json:"peer"`
	Decision string `json:"decision"`
	Rule     string `json:"rule"`
}

// Run prints one line for each day, peer and rule.
func (c auditStatsCommand) Run(t *terminal) error {
	counts := map[counted]int{}
	err := readTrail(t, c.trailFlags, c.filterFlags, func(e audit.Event, _ []byte) error {
		switch e.Kind {
		case audit.KindOpen, audit.KindCheckpoint, audit.KindClose:
			return nil
		}
		n := 1
		if e.Kind == audit.KindDropped {
			n = int(e.Count)
		}
		counts[counted{e.Time.UTC().Format(time.DateOnly), string(e.Kind), e.Peer, e.Decision, e.Rule}] += n
		return nil
	})
	if err != nil {
		return err
	}
	order := slices.SortedFunc(maps.Keys(counts), func(a, b counted) int {
		return cmp.Or(strings.Compare(a.Day, b.Day), strings.Compare(a.Kind, b.Kind), strings.Compare(a.Peer, b.Peer),
			strings.Compare(a.Decision, b.Decision), strings.Compare(a.Rule, b.Rule))
	})
	if c.JSON {
		encoder := json.NewEncoder(t.stdout)
		for _, k := range order {
			line := struct {
				counted
				Count int `json:"count"`
			}{k, counts[k]}
			if err := encoder.Encode(line); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DAY\tKIND\tPEER\tDECISION\tRULE\tCOUNT")
	for _, k := range order {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", k.Day, dash(k.Kind), dash(k.Peer), dash(k.Decision), dash(k.Rule), counts[k])
	}
	return w.Flush()
}

type auditExportCommand struct {
	trailFlags  `embed:""`
	filterFlags `embed:""`
	Anonymise   bool `help:"Hide users and addresses, and leave out requests, tokens, queries and details."`
}

// Help explains more than fits a line.
func (auditExportCommand) Help() string {
	return "Prints JSON Lines for somebody who may not know who it was: usernames and client addresses are replaced by pseudonyms that hold for this export alone and that nobody, you included, can undo. " +
		"Without its chain, what is exported cannot be verified."
}

// exported is a line of an export.
type exported struct {
	Time      time.Time `json:"time"`
	Kind      string    `json:"kind"`
	Site      string    `json:"site,omitempty"`
	Client    string    `json:"client,omitempty"`
	Step      string    `json:"step,omitempty"`
	User      string    `json:"user,omitempty"`
	Peer      string    `json:"peer,omitempty"`
	Target    string    `json:"target,omitempty"`
	Decision  string    `json:"decision,omitempty"`
	Rule      string    `json:"rule,omitempty"`
	Outcome   string    `json:"outcome,omitempty"`
	URL       string    `json:"url,omitempty"`
	Issuer    string    `json:"issuer,omitempty"`
	Latency   int64     `json:"latency,omitempty"`
	Origin    string    `json:"origin,omitempty"`
	Signature string    `json:"signature,omitempty"`
	Count     uint64    `json:"count,omitempty"`
}

// Run prints one JSON object a line.
func (c auditExportCommand) Run(t *terminal) error {
	if !c.Anonymise {
		return &usageError{"an export hides who it was", "say --anonymise, or use jumpgate audit query --format jsonl for everything"}
	}
	hidden := audit.NewPseudonyms()
	out := bufio.NewWriter(t.stdout)
	encoder := json.NewEncoder(out)
	err := readTrail(t, c.trailFlags, c.filterFlags, func(e audit.Event, _ []byte) error {
		if e.Key != "" { // checkpoints are about files alone
			return nil
		}
		return encoder.Encode(exported{
			Time: e.Time, Kind: string(e.Kind), Site: e.Site, Client: hidden.Of(e.Client), Step: e.Step, User: hidden.Of(e.User), Peer: e.Peer,
			Target: withoutQuery(e.Target), Decision: e.Decision, Rule: e.Rule, Outcome: e.Outcome, URL: withoutQuery(e.URL),
			Issuer: e.Issuer, Latency: e.Latency, Origin: e.Origin, Signature: e.Signature, Count: e.Count,
		})
	})
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	return err
}

// withoutQuery cuts an address before what may name people: the query, the
// fragment, whatever is escaped and might be one of those, and the names of users
// in front of a host.
func withoutQuery(address string) string {
	if i := strings.IndexAny(address, "?#%\\;&="); i >= 0 {
		address = address[:i]
	}
	if i := strings.LastIndexByte(address, '@'); i >= 0 {
		return "…" + address[i:]
	}
	return address
}
