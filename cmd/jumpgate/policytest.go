package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
)

type policyTestCommand struct {
	siteFlags `embed:""`
	File      string `arg:"" placeholder:"FILE" help:"Cases: YAML with target, peer, user, day, expect, rule and location."`
}

// Help explains more than fits a line.
func (policyTestCommand) Help() string {
	return `Nothing is started and nobody is asked. Exit code 0 if every case comes true, 1 if one does not or the file is wrong.

cases:
  - target: /mod/forum/discuss.php?d=12#p34
    peer: https://forum.example.net
    expect: allow
  - {target: //evil.example, peer: https://forum.example.net, expect: refuse, rule: scheme-relative}

A case may also have name, user (who would jump), day (on which; 2027-01-31) and location (where the learner would end). What is refused because nobody knows the peer is a slip in the case, unless its rule says so.`
}

// Run tries all cases and prints those that do not come true.
func (c policyTestCommand) Run(t *terminal) error {
	loaded, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	site, err := c.pick(loaded)
	if err != nil {
		return err
	}
	cases, err := config.LoadCases(c.File)
	if err != nil {
		return err
	}
	var out strings.Builder
	failed := 0
	for _, one := range cases {
		k := &checker{site: site, peer: one.Peer, user: one.User, now: one.Day}
		if one.Day.IsZero() {
			k.now = time.Now()
		}
		if one.Peer == "" {
			k.at(site)
		}
		if diff := compareCase(one, k.decide(one.Target)); diff != "" {
			failed++
			fmt.Fprintf(&out, "%s: %s\n%s", one.Position, caseName(one), diff)
		}
	}
	fmt.Fprintf(&out, "%s: cases %d, failed %d\n", c.File, len(cases), failed)
	if _, err := t.stdout.Write([]byte(out.String())); err != nil {
		return err
	}
	if failed > 0 {
		return errQuiet
	}
	return nil
}

// caseName is the case's own, or its target.
func caseName(c config.Case) string {
	if c.Name != "" {
		return strconv.QuoteToGraphic(c.Name)
	}
	return strconv.QuoteToASCII(c.Target)
}

// compareCase returns what was expected (-) and what was decided (+) where the
// two differ, a line each; empty if the case comes true.
func compareCase(want config.Case, got gateway.Decision) string {
	var diff strings.Builder
	line := func(name, want, got string) {
		if want != got {
			fmt.Fprintf(&diff, "  - %-8s %s\n  + %-8s %s\n", name, inASCII(want), name, inASCII(got))
		}
	}
	decision := map[bool]string{true: "allow", false: "refuse"}
	line("decision", decision[want.Allow], decision[got.Allow])
	if want.Rule != "" {
		line("rule", string(want.Rule), string(got.Rule))
	} else if !want.Allow && (got.Rule == gateway.RulePeerUnknown || got.Rule == gateway.RulePeerMissing) {
		line("rule", "any about the target or the user", string(got.Rule)) // a slip, unless the case says so
	} else if diff.Len() > 0 {
		fmt.Fprintf(&diff, "    %-8s %s\n", "rule", got.Rule)
	}
	if want.Location != "" {
		line("location", want.Location, got.Target.URL())
	}
	return diff.String()
}
