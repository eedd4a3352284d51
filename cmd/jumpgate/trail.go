package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"jumpgate/gateway/audit"
	"jumpgate/gateway/config"
	"jumpgate/gateway/mnet"
	"jumpgate/gateway/store"
)

// openTrail begins the trail of a process, or none if no directory is named.
func openTrail(c config.Audit, live func(context.Context, []audit.Line) error, log *slog.Logger) (*audit.Trail, error) {
	if c.Dir == "" {
		return nil, nil
	}
	trail, err := audit.Open(audit.Options{Dir: c.Dir, Always: c.Always, Pseudonyms: c.HideUsernames, MaxSize: c.MaxSize, Log: log, Live: live})
	return trail, withHint(err, "the directory of the trail (audit.dir, or audit below the state directory) must be writable, and the keys in it readable by their owner alone")
}

// trailToRedis returns what shows the trail in Redis, or nil: nobody else can
// look into an embedded one.
func trailToRedis(c *config.Config, r *store.Redis) func(context.Context, []audit.Line) error {
	if c.Redis.Embedded {
		return nil
	}
	return func(ctx context.Context, lines []audit.Line) error {
		entries := make([]store.TrailEntry, len(lines))
		for i, l := range lines {
			entries[i] = store.TrailEntry{File: l.File, Line: l.Text, Hash: l.Hash, Signed: l.Signed}
		}
		return r.AppendTrail(ctx, entries)
	}
}

// pruneTrail deletes files that are too old, now and every day, until ctx ends.
func pruneTrail(ctx context.Context, c config.Audit, trail *audit.Trail, log *slog.Logger) {
	if trail == nil {
		return
	}
	daily := time.NewTicker(24 * time.Hour)
	defer daily.Stop()
	for {
		pruned, err := audit.Prune(c.Dir, time.Now().Add(-c.Keep))
		for _, name := range pruned {
			trail.Note(audit.Event{Kind: audit.KindPruned, File: name})
			log.Info("deleted an audit file because of its age", "file", name)
		}
		if err != nil {
			log.Error("old audit files could not be deleted", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-daily.C:
		}
	}
}

// keyChanged returns what records the new keys of a site and its peers.
func (g *instance) keyChanged(s *config.Site) func(mnet.KeyChange) {
	return func(k mnet.KeyChange) { g.trail.Note(keyEvent(s, k)) }
}

func keyEvent(s *config.Site, k mnet.KeyChange) audit.Event {
	e := audit.Event{Kind: audit.KindKey, Site: s.Wwwroot.String(), Step: k.How, Detail: k.To.String()}
	if !k.From.IsZero() {
		e.Detail += " instead of " + k.From.String()
	}
	if k.Of != s.Wwwroot {
		e.Peer = k.Of.String()
	}
	return e
}

// configured records which configuration is in force, by the hash of what
// jumpgate config print says of it.
func (g *instance) configured(c *config.Config, outcome string, err error) {
	var printed strings.Builder
	_ = config.Print(&printed, c) // a Builder takes everything
	e := audit.Event{Kind: audit.KindConfig, Outcome: outcome, Detail: fmt.Sprintf("in force: sha256:%s, %d sites", audit.Hash(printed.String()), len(c.Sites))}
	if err != nil {
		e.Decision = audit.Failed
		e.Detail += ": " + err.Error()
	}
	g.trail.Note(e)
}

// attempted is record for what may have been done even if it failed.
func (d *desk) attempted(command string, e audit.Event, err error) error {
	if err != nil {
		e.Decision = audit.Failed // what a peer says of it may name the user
	}
	return cmp.Or(err, d.record(command, e))
}

// record adds what an administrator has done to the trail. Commands do so before
// they say it: whoever reads may be gone.
func (d *desk) record(command string, e audit.Event) error {
	e.Kind, e.Step, e.Decision = audit.KindAdmin, command, cmp.Or(e.Decision, audit.Allow)
	e.Detail = strings.TrimPrefix(e.Detail+", run by "+account(), ", ")
	return d.keep(e)
}

// keep adds an event to the trail, in a file of this process.
func (d *desk) keep(e audit.Event) error {
	e.Site = d.site.Wwwroot.String()
	c := d.config.Audit
	c.Always = true // somebody waits anyway
	var live func(context.Context, []audit.Line) error
	if d.redis != nil {
		live = trailToRedis(d.config, d.redis)
	}
	trail, err := openTrail(c, live, slog.New(slog.DiscardHandler))
	if err == nil {
		err = trail.Record(context.Background(), e)
	}
	if closed := trail.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return withHint(fmt.Errorf("it is done, but the audit trail does not tell: %w", err), "run the command as the account that runs the gateway")
	}
	return nil
}
