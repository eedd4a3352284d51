package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/gateway/config"
)

type auditSuggestCommand struct {
	trailFlags `embed:""`
	Site       string `placeholder:"WWWROOT" help:"For this site alone."`
	Since      string `placeholder:"TIME" help:"By what was recorded from then on: 2026-11-22, or 24h or 7d ago."`
	Paths      bool   `help:"Narrow each address down to the path that all of its redirects have in common."`
	JSON       bool   `help:"Print one JSON object a line."`
}

// Help explains more than fits a line.
func (auditSuggestCommand) Help() string {
	return "Prints what redirects.allow needs so that the recorded redirects of the Moodle behind would pass. What the configuration allows by now is left out. " +
		"Look at each entry before you paste it: redirects that somebody has brought about to lead learners astray are recorded just so."
}

// suggestion is an entry that redirects.allow of a site might have.
type suggestion struct {
	Site  string    `json:"site"`
	Allow string    `json:"allow"` // empty for addresses that no entry can allow
	Count int       `json:"count"`
	Last  time.Time `json:"last"`

	path []string // that all have in common, in segments
}

// Run prints the entries as YAML, those that would let most pass first.
func (c auditSuggestCommand) Run(t *terminal) error {
	deciders, err := c.deciders()
	if err != nil {
		return err
	}
	found, unrecorded, unlisted := map[[2]string]*suggestion{}, uint64(0), 0
	err = readTrail(t, c.trailFlags, filterFlags{Since: c.Since, Kind: string(audit.KindRedirect)}, func(e audit.Event, _ []byte) error {
		decider, known := deciders[e.Site]
		if c.Site != "" && e.Site != strings.TrimSuffix(c.Site, "/") || c.Config != "" && !known {
			return nil
		}
		unrecorded += e.Count
		wanted := e.Rule == string(gateway.RuleRedirectMalformed) || decider == nil || !decider.Address(e.Target, e.Time).Allow
		if wanted && !count(found, e) {
			unlisted++
		}
		return nil
	})
	if err != nil {
		return err
	}
	all := c.suggestions(found)
	if c.JSON {
		encoder := json.NewEncoder(t.stdout)
		for _, s := range all {
			if err := encoder.Encode(s); err != nil {
				return err
			}
		}
		return nil
	}
	var b strings.Builder
	writeSuggestions(&b, all)
	if unrecorded > 0 {
		fmt.Fprintf(&b, "# %d more came too fast to be recorded one by one.\n", unrecorded)
	}
	if unlisted > 0 {
		fmt.Fprintf(&b, "# %d more went to yet other addresses.\n", unlisted)
	}
	_, err = io.WriteString(t.stdout, b.String())
	return err
}

// deciders returns what decides now, by site; nothing without a configuration.
func (c auditSuggestCommand) deciders() (map[string]*gateway.Redirects, error) {
	if c.Config == "" {
		return nil, nil
	}
	loaded, err := config.Load(c.Config)
	if err != nil {
		return nil, err
	}
	if c.Site != "" {
		if _, err := (siteFlags{Site: c.Site}).pick(loaded); err != nil {
			return nil, err
		}
	}
	all := map[string]*gateway.Redirects{}
	for _, s := range loaded.Sites {
		all[s.Wwwroot.String()] = s.Decider()
	}
	return all, nil
}

// maxSuggested bounds what a flood of made-up addresses can take of memory.
const maxSuggested = 10000

// count adds a redirect to those of its origin, and reports false if there are
// too many others.
func count(found map[[2]string]*suggestion, e audit.Event) bool {
	origin, path := "", []string{}
	if i := strings.Index(e.Target, "://"); i >= 0 {
		host, _, _ := strings.Cut(e.Target[i+len("://"):], "/")
		origin = e.Target[:i+len("://")+len(host)]
		path = strings.Split(e.Target[len(origin):], "/")
	} else {
		origin = e.Target
	}
	if _, err := gateway.ParseDestination(origin); err != nil || e.Rule == string(gateway.RuleRedirectMalformed) {
		origin, path = "", nil
	}
	s := found[[2]string{e.Site, origin}]
	if s == nil {
		if len(found) >= maxSuggested {
			return false
		}
		s = &suggestion{Site: e.Site, Allow: origin, path: path}
		found[[2]string{e.Site, origin}] = s
	}
	s.Count++
	if e.Time.After(s.Last) {
		s.Last = e.Time
	}
	n := 0
	for n < len(s.path) && n < len(path) && s.path[n] == path[n] {
		n++
	}
	s.path = s.path[:n]
	return true
}

// suggestions returns what was found, by site, the most frequent first, and what
// cannot be allowed last.
func (c auditSuggestCommand) suggestions(found map[[2]string]*suggestion) []*suggestion {
	all := slices.SortedFunc(maps.Values(found), func(a, b *suggestion) int {
		last := 0
		switch {
		case a.Allow == "":
			last = 1
		case b.Allow == "":
			last = -1
		}
		return cmp.Or(strings.Compare(a.Site, b.Site), last, cmp.Compare(b.Count, a.Count), strings.Compare(a.Allow, b.Allow))
	})
	for _, s := range all {
		for n := len(s.path); c.Paths && n > 1; n-- { // the longest that an entry can have
			narrowed := s.Allow + strings.Join(s.path[:n], "/")
			if _, err := gateway.ParseDestination(narrowed); err == nil {
				s.Allow = strings.TrimSuffix(narrowed, "/")
				break
			}
		}
	}
	return all
}

// writeSuggestions prints YAML with remarks. What is recorded is a stranger's,
// but entries are what ParseDestination accepts, and sites are our own.
func writeSuggestions(out io.Writer, all []*suggestion) {
	if len(all) == 0 {
		fmt.Fprintln(out, "# Nothing was recorded that the configuration does not allow.")
		return
	}
	fmt.Fprintln(out, `# Look at each entry before you paste it, and remove what you do not know: a
# redirect that somebody has brought about to lead learners astray (with a link of
# mod/url, say) is recorded like one that you need.`)
	site := ""
	for _, s := range all {
		if s.Site != site {
			site = s.Site
			fmt.Fprintf(out, "\n# for the site %s\nredirects:\n  allow:\n", visibleText(site))
		}
		times := fmt.Sprintf("%d×, last on %s", s.Count, s.Last.UTC().Format(time.DateOnly))
		if s.Allow == "" {
			fmt.Fprintf(out, "    # no entry can allow: %s; jumpgate audit query --kind %s shows them\n", times, audit.KindRedirect)
			continue
		}
		fmt.Fprintf(out, "    - %-48s # %s\n", strconv.Quote(s.Allow), times)
	}
}
