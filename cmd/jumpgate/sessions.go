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
	"jumpgate/sp"
)

type sessionListCommand struct {
	siteFlags
	JSON  bool   `help:"Print one JSON object a line."`
	Limit int    `default:"1000" placeholder:"N" help:"List no more than N learners, and N visitors (1000)."`
	Home  string `placeholder:"WWWROOT" help:"List visitors alone: learners of this home."`
	User  string `arg:"" optional:"" help:"List this user's alone, with those that ended within a day. With --home, of who is called so there."`
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
	homes, err := d.homes(t, c.Home)
	if err != nil {
		return err
	}
	var sessions []store.PeerSession
	more := false
	switch {
	case c.Home != "":
	case c.User != "":
		sessions, err = state.PeerSessions(t.ctx, c.User)
	default:
		sessions, more, err = state.ListPeerSessions(t.ctx, c.Limit)
	}
	if err != nil {
		return withHint(err, hintRedis)
	}
	visits, moreVisits, err := c.visits(t.ctx, state, homes)
	if err != nil {
		return withHint(err, hintRedis)
	}
	if c.Home == "" && (len(visits) == 0 || len(sessions) > 0) {
		err = c.print(t, sessions)
	}
	if err == nil {
		if !c.JSON && len(visits) > 0 && len(sessions) > 0 {
			fmt.Fprintln(t.stdout)
		}
		err = c.printVisits(t, visits)
	}
	if err != nil {
		return err
	}
	if more || moreVisits {
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
	Home string `placeholder:"WWWROOT" help:"End what a visitor has here: the user is a learner of this home."`
	User string `arg:"" help:"Username at home."`
}

// endPauses are shorter than a gateway's: somebody waits.
var endPauses = []time.Duration{time.Second, 3 * time.Second}

// outcomeLine is what session end --json prints of a session.
type outcomeLine struct {
	Site    string `json:"site"` // a peer, or home; here, of a visitor
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
	homes, err := d.homes(t, c.Home)
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
	asked := moodleWeb(d.site, state, d.keys)
	defer context.AfterFunc(t.ctx, func() { children.Close(t.ctx) })()
	if c.Home == "" {
		err = idp.New(idp.Options{
			Site: d.site.Wwwroot, Peers: d.site.Peers, Store: state, Secrets: secrets(d.keys),
			Children: children, Call: d.caller.Call, Logout: homeLogout(d.site, state, asked),
		}).EndSessions(t.ctx, c.User)
	} else {
		visits := &sp.Visits{Site: d.site.Wwwroot, Store: state, Secrets: secrets(d.keys), Children: children, Logout: asked.Logout}
		for _, home := range homes {
			if err = visits.EndVisits(t.ctx, home, c.User); err != nil {
				break
			}
		}
	}
	children.Wait()
	event := audit.Event{User: c.User, Detail: fmt.Sprintf("%d sessions", len(all))}
	if c.Home != "" {
		event.Peer = homes[0].String()
	}
	recorded := d.attempted("session end", event, err)
	if err != nil {
		return withHint(err, hintRedis)
	}
	slices.SortFunc(all, func(a, b mnet.Logout) int { return strings.Compare(a.At.String(), b.At.String()) })
	return cmp.Or(recorded, c.print(t, all))
}

func (c sessionEndCommand) print(t *terminal, all []mnet.Logout) error {
	failed := false
	if len(all) == 0 && !c.JSON {
		where := "at a peer"
		if c.Home != "" {
			where = "here"
		}
		fmt.Fprintf(t.stdout, "%s has no session %s\n", c.User, where)
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
