package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway/audit"
	"jumpgate/gateway/config"
)

type auditCommand struct {
	Query   auditQueryCommand   `cmd:"" help:"Print events of the trail."`
	Tail    auditTailCommand    `cmd:"" help:"Print the last events, and those that come."`
	Stats   auditStatsCommand   `cmd:"" help:"Count events by day, peer and rule."`
	Export  auditExportCommand  `cmd:"" help:"Print events without what tells who it was."`
	Suggest auditSuggestCommand `cmd:"" help:"Print what redirects.allow needs for the redirects that were recorded."`
	Verify  auditVerifyCommand  `cmd:"" help:"Check that files of the trail are what a gateway wrote."`
	Heads   auditHeadsCommand   `cmd:"" help:"Print the hashes of checkpoints that are kept in Redis."`
	Prune   auditPruneCommand   `cmd:"" help:"Delete old files of the trail, as the gateway does every day."`
}

// trailFlags name a trail.
type trailFlags struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration file of the gateway."`
	Dir    string `placeholder:"DIR" help:"Directory of the trail, instead of a configuration."`
}

// dir returns the directory of the trail.
func (f trailFlags) dir() (string, error) {
	switch {
	case (f.Config == "") == (f.Dir == ""):
		return "", &usageError{"neither a configuration nor a directory is given, or both", "give -c jumpgate.yaml or --dir /var/lib/jumpgate/audit"}
	case f.Dir != "":
		return f.Dir, nil
	}
	loaded, err := config.Load(f.Config)
	if err != nil {
		return "", err
	}
	return loaded.Audit.Dir, nil
}

// filterFlags choose among events.
type filterFlags struct {
	Since    string `placeholder:"TIME" help:"From then on: 2026-11-22, 2026-11-22T08:00:00Z, or 90m, 24h or 7d ago."`
	Until    string `placeholder:"TIME" help:"Before then."`
	User     string `placeholder:"NAME" help:"Of this user, hidden or not."`
	Peer     string `placeholder:"WWWROOT" help:"Of this peer."`
	Rule     string `help:"Decided by this rule, or refused for this reason."`
	Decision string `enum:",allow,refuse,ask,error" default:"" placeholder:"allow|refuse|ask|error" help:"With this decision."`
	Request  string `placeholder:"ID" help:"Of this request, as the log and the pages name it."`
	Kind     string `placeholder:"KIND" help:"Of this kind: decision, probe, redemption, landing, redirect, rpc, logout, key, admin, config, checkpoint, torn, dropped…"`
}

// filter reads the flags, for the trail in dir.
func (f filterFlags) filter(dir string, now time.Time) (audit.Filter, error) {
	out := audit.Filter{
		User: f.User, Peer: strings.TrimSuffix(f.Peer, "/"), Rule: f.Rule, Decision: f.Decision, Request: f.Request, Kind: audit.Kind(f.Kind),
	}
	for _, t := range []struct {
		flag, text string
		at         *time.Time
	}{{"--since", f.Since, &out.Since}, {"--until", f.Until, &out.Until}} {
		if t.text == "" {
			continue
		}
		var ok bool
		if *t.at, ok = moment(t.text, now); !ok {
			return out, &usageError{fmt.Sprintf("%s: %q is no time", t.flag, t.text), "write 2026-11-22, 2026-11-22T08:00:00Z (UTC), or how long ago: 90m, 24h, 7d"}
		}
	}
	if f.User == "" || !audit.HasPseudonyms(dir) {
		return out, nil
	}
	hidden, err := audit.OpenPseudonyms(dir)
	if err != nil {
		return out, withHint(err, "usernames are hidden under a secret that only the account of the gateway may read: run the command as that")
	}
	out.Hidden = hidden.Of(f.User)
	return out, nil
}

// moment reads a point in time, or how long ago it was.
func moment(text string, now time.Time) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return now.AddDate(0, 0, -int(n)), err == nil
	}
	d, err := time.ParseDuration(text)
	return now.Add(-d), err == nil && d >= 0
}

const hintTrail = "run the command as the account that runs the gateway; jumpgate config print shows the directory (audit.dir)"

// readTrail calls each with the events that are wanted, and says on standard
// error which lines cannot be read.
func readTrail(t *terminal, f trailFlags, filters filterFlags, each func(audit.Event, []byte) error) error {
	dir, err := f.dir()
	if err != nil {
		return err
	}
	filter, err := filters.filter(dir, time.Now())
	if err != nil {
		return err
	}
	unread := 0
	err = audit.Read(dir, filter, func(e audit.Event, line []byte) error {
		if err := t.ctx.Err(); err != nil {
			return err
		}
		return each(e, line)
	}, func(err error) {
		if unread++; unread <= 10 {
			fmt.Fprintf(t.stderr, "jumpgate: warning: %s\n", visibleText(err.Error()))
		}
	})
	switch {
	case err != nil:
		return withHint(err, hintTrail)
	case unread > 0:
		return withHint(fmt.Errorf("%d lines cannot be read and were left out", unread), "jumpgate audit verify "+dir+" tells what is wrong")
	}
	return nil
}

// visibleText returns s for a terminal, which must not obey what is in a file.
func visibleText(s string) string { return strings.Trim(strconv.QuoteToGraphic(s), `"`) }

type auditPruneCommand struct {
	Config   string `short:"c" required:"" placeholder:"FILE" help:"Configuration file of the gateway."`
	KeepDays int    `placeholder:"N" help:"Keep this many days, instead of audit.keep_days."`
}

// Run deletes whole files, and says which.
func (c auditPruneCommand) Run(t *terminal) error {
	loaded, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	if c.KeepDays < 0 {
		return &usageError{"--keep-days is less than 1", "leave it out for audit.keep_days of the configuration"}
	}
	a := loaded.Audit
	if c.KeepDays > 0 {
		a.Keep = time.Duration(c.KeepDays) * 24 * time.Hour
	}
	a.Always = true
	trail, err := openTrail(a, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer trail.Close()
	pruned, err := audit.Prune(a.Dir, time.Now().Add(-a.Keep))
	for _, name := range pruned {
		if err := trail.Record(t.ctx, audit.Event{Kind: audit.KindPruned, File: name, Detail: "run by " + account()}); err != nil {
			return withHint(err, hintTrail)
		}
		fmt.Fprintf(t.stdout, "deleted %s\n", filepath.Join(a.Dir, name))
	}
	return withHint(err, hintTrail)
}
