package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/store"
)

// homes returns the names of the home that --home names, since visits may have begun
// before it moved; none for "". It need not be a peer any more, but whoever mistypes
// it is told.
func (d *desk) homes(t *terminal, name string) ([]gateway.Wwwroot, error) {
	if name == "" {
		return nil, nil
	}
	if peer := d.site.Peers.Find(name); peer != nil {
		return peer.Names(), nil
	}
	w, err := gateway.ParseWwwroot(name)
	if err != nil {
		return nil, &usageError{fmt.Sprintf("--home: %q is neither a peer of %s nor a wwwroot", name, d.site.Wwwroot), "jumpgate peer list shows the peers"}
	}
	fmt.Fprintf(t.stderr, "jumpgate: note: %s is not a peer of %s\n", w, d.site.Wwwroot)
	return []gateway.Wwwroot{w}, nil
}

// visits returns what is to be listed of visitors.
func (c sessionListCommand) visits(ctx context.Context, state *store.Site, homes []gateway.Wwwroot) (all []store.Visit, more bool, err error) {
	if c.User == "" && c.Home == "" {
		all, more, err = state.ListVisits(ctx, gateway.Wwwroot{}, c.Limit)
	}
	for _, home := range homes {
		var some []store.Visit
		left := false
		if c.User == "" {
			some, left, err = state.ListVisits(ctx, home, c.Limit)
		} else {
			some, err = state.Visits(ctx, home, c.User, "")
		}
		if err != nil {
			return nil, false, err
		}
		all, more = append(all, some...), more || left
	}
	slices.SortFunc(all, func(a, b store.Visit) int {
		return cmp.Or(cmp.Compare(a.Home.String(), b.Home.String()), cmp.Compare(a.Username, b.Username), b.Started.Compare(a.Started))
	})
	return all, more, err
}

// visitorLine is what session list --json prints of a visitor's session.
type visitorLine struct {
	Username  string    `json:"username"` // at home
	Home      string    `json:"home"`
	Account   string    `json:"account"`   // what they are called here
	UserAgent string    `json:"useragent"` // SHA-1 of the header, as on the wire
	Started   time.Time `json:"started"`
	Until     time.Time `json:"until"` // if it is not used again
}

func (c sessionListCommand) printVisits(t *terminal, visits []store.Visit) error {
	if c.JSON {
		for _, v := range visits {
			if err := encodeJSON(t.stdout, visitorLine{v.Username, v.Home.String(), v.Account, v.UserAgent, v.Started, v.Expires}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(visits) == 0 && c.Home == "" {
		return nil
	}
	out := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "VISITOR\tHOME\tACCOUNT\tBROWSER\tSTARTED\tUNTIL")
	for _, v := range visits {
		fmt.Fprintf(out, "%s\t%s\t%s\t%.8s\t%s\t%s\n", shown(v.Username), v.Home, shown(v.Account), v.UserAgent,
			v.Started.Format(time.DateTime), v.Expires.Format(time.DateTime))
	}
	return out.Flush()
}
