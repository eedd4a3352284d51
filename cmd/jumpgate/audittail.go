package main

import (
	"fmt"
	"time"

	"jumpgate/gateway/audit"
	"jumpgate/gateway/config"
	"jumpgate/gateway/store"
)

type auditTailCommand struct {
	trailFlags  `embed:""`
	filterFlags `embed:""`
	Follow      bool   `short:"f" help:"Go on with those that come, until interrupted."`
	Last        int    `short:"n" default:"10" placeholder:"N" help:"How many of the last ones (10)."`
	Redis       bool   `help:"Read from the gateway's Redis instead of the files: the events of all gateways, as far as they are still there."`
	Format      string `enum:"table,jsonl" default:"table" placeholder:"table|jsonl" help:"table, or jsonl (the lines as they are written)."`
}

// tailMost bounds --last, of which all are in memory.
const tailMost = 10_000

// Run prints events until there are no more, or until it is interrupted.
func (c auditTailCommand) Run(t *terminal) error {
	if c.Last < 0 || c.Last > tailMost {
		return &usageError{fmt.Sprintf("-n: give a number from 0 to %d", tailMost), "jumpgate audit query prints any number"}
	}
	write, _ := eventWriter(t.stdout, c.Format)
	dir, err := c.dir()
	if err != nil {
		return err
	}
	filter, err := c.filter(dir, time.Now())
	if err != nil {
		return err
	}
	if c.Redis {
		return c.fromRedis(t, filter, write)
	}
	return withHint(audit.Follow(t.ctx, dir, filter, c.Last, c.Follow, write), hintTrail)
}

// openStream returns the Redis that holds the latest of the trail.
func openStream(file string) (*store.Redis, error) {
	if file == "" {
		return nil, &usageError{"Redis is named by the configuration", "give -c jumpgate.yaml"}
	}
	loaded, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	if loaded.Redis.Embedded {
		return nil, withHint(fmt.Errorf("the gateway's state is in its embedded Redis, where no other process can look"), "read the files instead, without --redis")
	}
	return store.Open(redisOptions(loaded.Redis))
}

// redisWait is how long one look at Redis waits for something new.
const redisWait = 2 * time.Second

func (c auditTailCommand) fromRedis(t *terminal, f audit.Filter, write func(audit.Event, []byte) error) error {
	redis, err := openStream(c.Config)
	if err != nil {
		return err
	}
	defer redis.Close()
	entries, last := []store.TrailEntry(nil), ""
	if entries, err = redis.Trail(t.ctx, max(c.Last, 1)); err != nil {
		return withHint(err, hintRedis)
	}
	if len(entries) > 0 {
		last = entries[len(entries)-1].ID
	}
	if c.Last == 0 {
		entries = nil
	}
	for {
		for _, entry := range entries {
			e, err := audit.Parse(entry.Line)
			if err != nil { // too long for Redis, or not the gateway's
				fmt.Fprintf(t.stderr, "jumpgate: a line of %s is not shown: its hash is %s\n", visibleText(entry.File), visibleText(entry.Hash))
				continue
			}
			if !f.Wants(&e) {
				continue
			}
			if err := write(e, entry.Line); err != nil {
				return err
			}
		}
		if !c.Follow || t.ctx.Err() != nil {
			return nil
		}
		entries, err = redis.TrailAfter(t.ctx, last, redisWait)
		switch {
		case t.ctx.Err() != nil:
			return nil
		case err != nil:
			return withHint(err, hintRedis)
		case len(entries) > 0:
			last = entries[len(entries)-1].ID
		}
	}
}

type auditHeadsCommand struct {
	Config string `short:"c" required:"" placeholder:"FILE" help:"Configuration file of the gateway."`
	Last   int    `short:"n" default:"100" placeholder:"N" help:"How many of the last ones (100)."`
}

// Help explains more than fits a line.
func (auditHeadsCommand) Help() string {
	return "Each is the hash of a signed line. Whoever can write to the files of the trail may not be able to change them here, or in the log (msg=\"audit checkpoint\"): jumpgate audit verify --head looks for one."
}

// Run prints file and hash, the newest last.
func (c auditHeadsCommand) Run(t *terminal) error {
	if c.Last < 1 || c.Last > tailMost {
		return &usageError{fmt.Sprintf("-n: give a number from 1 to %d", tailMost), "leave it out for the last 100"}
	}
	redis, err := openStream(c.Config)
	if err != nil {
		return err
	}
	defer redis.Close()
	heads, err := redis.TrailHeads(t.ctx, c.Last)
	if err != nil {
		return withHint(err, hintRedis)
	}
	for _, h := range heads {
		if _, err := fmt.Fprintf(t.stdout, "%s  %s\n", visibleText(h.Hash), visibleText(h.File)); err != nil {
			return err
		}
	}
	return nil
}
