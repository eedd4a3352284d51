package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"jumpgate/gateway/audit"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
	"jumpgate/idp"
)

type sessionListCommand struct {
	siteFlags
	JSON  bool   `help:"Print one JSON object a line."`
	Limit int    `default:"1000" placeholder:"N" help:"List no more than N learners (1000)."`
	User  string `arg:"" optional:"" help:"List this user's alone, with those that ended within a day."`
}

// sessionLine is what session list --json prints of a session.
type sessionLine struct {
	Username  string    `json:"username"`
	UserID    int64     `json:"userid"`
	Peer      string    `json:"peer"`
	UserAgent string    `json:"useragent"` // SHA-1 of the header, as on the wire
	State     string    `json:"state"`
	Started   time.Time `json:"started"`
	Until     time.Time `json:"until"`
}

func lineOf(p store.PeerSession, now time.Time) sessionLine {
	l := sessionLine{p.Username, p.UserID, p.Peer.String(), p.UserAgent, "live", p.Started, p.Expires}
	switch {
	case !p.Ended.IsZero():
		l.State, l.Until = "ended", p.Ended
	case !p.Live(now):
		l.State = "expired"
	}
	return l
}

const hintRedis = "the gateway's Redis has to answer: see redis in the configuration"

// Run prints one line a session.
func (c sessionListCommand) Run(t *terminal) error {
	if c.Limit < 1 {
		return &usageError{"--limit is less than 1", "leave it out for 1000 learners"}
	}
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	state, err := d.shared()
	if err != nil {
		return err
	}
	var sessions []store.PeerSession
	more := false
	if c.User != "" {
		sessions, err = state.PeerSessions(t.ctx, c.User)
	} else {
		sessions, more, err = state.ListPeerSessions(t.ctx, c.Limit)
	}
	if err != nil {
		return withHint(err, hintRedis)
	}
	if err := c.print(t, sessions); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(t.stderr, "jumpgate: there are more: list more learners with --limit, or one by name\n")
	}
	return nil
}

func (c sessionListCommand) print(t *terminal, sessions []store.PeerSession) error {
	now := time.Now()
	if c.JSON {
		for _, p := range sessions {
			if err := encodeJSON(t.stdout, lineOf(p, now)); err != nil {
				return err
			}
		}
		return nil
	}
	out := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "USER\tPEER\tBROWSER\tSTATE\tSTARTED\tUNTIL")
	for _, p := range sessions {
		l := lineOf(p, now)
		fmt.Fprintf(out, "%s\t%s\t%.8s\t%s\t%s\t%s\n", shown(l.Username), l.Peer, l.UserAgent, l.State,
			l.Started.Format(time.DateTime), l.Until.Format(time.DateTime))
	}
	return out.Flush()
}

type sessionEndCommand struct {
	siteFlags
	JSON bool   `help:"Print one JSON object a line."`
	User string `arg:"" help:"Username at home."`
}

// endPauses are shorter than a gateway's: somebody waits.
var endPauses = []time.Duration{time.Second, 3 * time.Second}

// outcomeLine is what session end --json prints of a session.
type outcomeLine struct {
	Site    string `json:"site"` // a peer, or home
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`
}

// Run prints one line for each session that was to end.
func (c sessionEndCommand) Run(t *terminal) error {
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	state, err := d.shared()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var all []mnet.Logout
	children := mnet.NewChildren(func(l mnet.Logout) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, l)
	}, endPauses)
	provider := idp.New(idp.Options{
		Site: d.site.Wwwroot, Peers: d.site.Peers, Store: state, Secrets: secrets(d.keys),
		Children: children, Call: d.caller.Call, Logout: homeLogout(d.site, state, moodleWeb(d.site, state, d.keys)),
	})
	defer context.AfterFunc(t.ctx, func() { children.Close(t.ctx) })()
	err = provider.EndSessions(t.ctx, c.User)
	children.Wait()
	recorded := d.attempted("session end", audit.Event{User: c.User, Detail: fmt.Sprintf("%d sessions", len(all))}, err)
	if err != nil {
		return withHint(err, hintRedis)
	}
	slices.SortFunc(all, func(a, b mnet.Logout) int { return strings.Compare(a.At.String(), b.At.String()) })
	return cmp.Or(recorded, c.print(t, all))
}

func (c sessionEndCommand) print(t *terminal, all []mnet.Logout) error {
	failed := false
	if len(all) == 0 && !c.JSON {
		fmt.Fprintf(t.stdout, "%s has no session at a peer\n", c.User)
	}
	for _, l := range all {
		line := outcomeLine{Site: l.At.String(), Outcome: l.Outcome}
		if l.Err != nil {
			line.Error = l.Err.Error()
		}
		failed = failed || !l.Done()
		if c.JSON {
			if err := encodeJSON(t.stdout, line); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(t.stdout, "%s\t%s\n", line.Site, strings.TrimSpace(line.Outcome+"  "+line.Error))
	}
	if failed {
		return errQuiet
	}
	return nil
}
