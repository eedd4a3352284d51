package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	whatwg "github.com/nlnwa/whatwg-url/url"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
)

// maxCorpus bounds a list of targets, in bytes.
const maxCorpus = 64 << 20

// entry is a target of a list.
type entry struct {
	line int
	text string
}

// summary is what became of a list.
type summary struct {
	File      string               `json:"file"`
	Targets   int                  `json:"targets"`
	Decisions int                  `json:"decisions"` // each form of each target, at each peer
	Allow     map[gateway.Rule]int `json:"allow"`
	Refuse    map[gateway.Rule]int `json:"refuse"`
	Surprises []surprise           `json:"surprises"`
}

// surprise is a decision that should not be.
type surprise struct {
	Line     int          `json:"line"`
	Layers   int          `json:"layers"` // of escapes that were taken off
	Target   string       `json:"target"`
	Peer     string       `json:"peer"`
	Rule     gateway.Rule `json:"rule"`
	Location string       `json:"location"`
	Why      string       `json:"why"`
}

// corpora tries lists of targets and prints a summary of each.
func (c checkCommand) corpora(out *bufio.Writer, k *checker) error {
	peers := k.everywhere()
	if len(peers) == 0 {
		return withHint(errors.New("there is no such peer, and so nothing is tried"), "jumpgate policy print shows the peers of a configuration")
	}
	surprised := false
	for _, file := range c.Corpus {
		entries, err := readCorpus(file)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return withHint(fmt.Errorf("%s holds no target", file), "write one a line; lines that begin with # and a blank are remarks")
		}
		s := summary{File: file, Targets: len(entries), Allow: map[gateway.Rule]int{}, Refuse: map[gateway.Rule]int{}, Surprises: []surprise{}}
		for _, e := range entries {
			c.try(k, peers, e, &s)
		}
		if rule := s.untried(); rule != "" {
			return withHint(fmt.Errorf("no target of %s was looked at: %s", file, rule.Meaning()), "try it at a peer that is open, and without --user")
		}
		surprised = surprised || len(s.Surprises) > 0
		if err := c.printSummary(out, s); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if surprised {
		return errQuiet
	}
	return nil
}

// readCorpus reads a list of targets: one a line, as it stands, or in Go's
// quotes. Of a line with tabs the quoted fields count, if it has any. Empty
// lines and those that begin with # and a blank do not.
func readCorpus(file string) ([]entry, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, withHint(err, "--corpus takes a file with one target a line")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCorpus+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxCorpus:
		return nil, withHint(fmt.Errorf("%s has more than %d MiB", file, maxCorpus>>20), "split it")
	}
	// With --refuse all of these would pass: no target begins or ends so.
	if slices.ContainsFunc([]string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"}, func(mark string) bool { return bytes.HasPrefix(b, []byte(mark)) }) {
		return nil, withHint(fmt.Errorf("%s begins with a byte order mark", file), "save it as UTF-8 without one")
	}
	if n := bytes.Count(b, []byte("\n")); n > 0 && n == bytes.Count(b, []byte("\r\n")) {
		return nil, withHint(fmt.Errorf("the lines of %s end as on Windows, and so would all targets", file),
			`save it with Unix line ends; write a target that ends so in quotes, "/x\r"`)
	}
	var all []entry
	number := 0
	for line := range strings.Lines(string(b)) {
		number++
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line == "#" || strings.HasPrefix(line, "# ") {
			continue
		}
		targets, ok := quotedTargets(line)
		if !ok {
			return nil, withHint(fmt.Errorf("%s:%d: a target in quotes cannot be read", file, number), `write it as Go does: \n, \x00, \u00e9, \" and \\, nothing else`)
		}
		for _, target := range targets {
			all = append(all, entry{number, target})
		}
	}
	return all, nil
}

// quotedTargets returns the targets in a line of a list, or false if what is in
// quotes cannot be read.
func quotedTargets(line string) ([]string, bool) {
	if !strings.Contains(line, "\t") {
		if len(line) < 2 || line[0] != '"' || line[len(line)-1] != '"' {
			return []string{line}, true
		}
		target, err := strconv.Unquote(line)
		return []string{target}, err == nil
	}
	var all []string
	for column := range strings.SplitSeq(line, "\t") {
		for rest := column; rest != ""; {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil && rest == column && rest[0] == '"' {
				return nil, false
			}
			after := rest[len(quoted):]
			if err == nil && quoted[0] == '"' && (after == "" || after[0] == ' ') {
				target, _ := strconv.Unquote(quoted) // which QuotedPrefix has checked
				all = append(all, target)
				rest = strings.TrimLeft(after, " ")
				continue
			}
			_, rest, _ = strings.Cut(rest, " ")
		}
	}
	if len(all) == 0 {
		return []string{line}, true
	}
	return all, true
}

// try decides all forms of a target at all peers that it may be for.
func (c checkCommand) try(k *checker, peers []sitePeer, e entry, s *summary) {
	for _, at := range peers {
		for layers, form := range gateway.Layers(e.text, 2) {
			d := k.judge(at.site, gateway.Query{Hostwwwroot: at.peer, Wantsurl: form})
			s.Decisions++
			why := ""
			if d.Allow {
				s.Allow[d.Rule]++
				why = strays(d.Peer, d.Target)
			} else {
				s.Refuse[d.Rule]++
			}
			if why == "" && layers == 0 {
				why = c.unexpected(d, form)
			}
			if why != "" {
				s.Surprises = append(s.Surprises, surprise{e.line, layers, form, at.peer, d.Rule, d.Target.URL(), why})
			}
		}
	}
}

// untried returns a rule that refused if no decision was about a target, and ""
// if one was.
func (s summary) untried() (first gateway.Rule) {
	for _, m := range gateway.Rules() {
		if s.Allow[m.Rule] > 0 || s.Refuse[m.Rule] > 0 && m.About == gateway.AboutTarget {
			return ""
		}
		if s.Refuse[m.Rule] > 0 {
			first = cmp.Or(first, m.Rule)
		}
	}
	return first
}

// unexpected says in what way a decision is not what --accept or --refuse
// expect, or returns "".
func (c checkCommand) unexpected(d gateway.Decision, target string) string {
	unchanged := strings.ReplaceAll(target, "&amp;", "&")
	switch {
	case c.Accept && !d.Allow:
		return "it is refused"
	case c.Accept && d.Target.String() != unchanged && d.Target.URL() != unchanged:
		return "it is changed"
	case c.Refuse && d.Allow:
		return "it is allowed"
	}
	return ""
}

// sitePeer is a peer of a site.
type sitePeer struct {
	site *config.Site
	peer string
}

// everywhere returns the peers that a target of a list may be for.
func (k *checker) everywhere() []sitePeer {
	if len(k.sites) == 0 && k.site.Peers.Find(k.peer) == nil {
		return nil
	}
	if len(k.sites) == 0 {
		return []sitePeer{{k.site, k.peer}}
	}
	var all []sitePeer
	for _, site := range k.sites {
		for _, peer := range site.Peers.Peers() {
			all = append(all, sitePeer{site, peer.Wwwroot.String()})
		}
	}
	return all
}

// strays says in what way a page that was allowed is not one of the peer, or
// returns "". It does not ask the rules, but those who read the address next.
func strays(p *gateway.Peer, page gateway.Target) string {
	root := p.Wwwroot
	seen, err := whatwg.Parse(page.URL())
	switch {
	case err != nil:
		return "no browser reads it"
	case seen.Protocol()+"//"+seen.Host() != root.Origin() || seen.Username()+seen.Password() != "":
		return "a browser goes to " + seen.Href(false)
	case !strings.HasPrefix(seen.Pathname(), root.Path()+"/"):
		return "a browser leaves the wwwroot: " + seen.Href(false)
	case seen.Href(false) != page.URL():
		return "a browser makes " + seen.Href(false) + " of it"
	}
	if parsed, err := url.Parse(page.URL()); err != nil || parsed.Scheme+"://"+parsed.Host != root.Origin() || parsed.User != nil {
		return "Go reads another address"
	}
	if again, rule := gateway.ParseTarget(p, page.String()); again != page {
		return "decided again it is another page, or refused: " + string(rule)
	}
	return ""
}

// maxSurprises is how many of them are shown to people.
const maxSurprises = 50

func (c checkCommand) printSummary(out *bufio.Writer, s summary) error {
	if c.JSON {
		return encodeJSON(out, s)
	}
	fmt.Fprintf(out, "%s: targets %d, decisions %d\n", s.File, s.Targets, s.Decisions)
	printCounts(out, "allow", s.Allow)
	printCounts(out, "refuse", s.Refuse)
	for i, one := range s.Surprises {
		if i == maxSurprises {
			fmt.Fprintf(out, "  and %d more\n", len(s.Surprises)-i)
			break
		}
		layers := ""
		if one.Layers > 0 {
			layers = fmt.Sprintf(", escapes taken off %d×", one.Layers)
		}
		fmt.Fprintf(out, "  surprise  line %d%s, at %s: %s %s\n            %s\n", one.Line, layers, one.Peer,
			strconv.QuoteToASCII(one.Target), cmp.Or(one.Location, "by "+string(one.Rule)), inASCII(one.Why))
	}
	_, err := fmt.Fprintf(out, "  surprises: %d\n", len(s.Surprises))
	return err
}

// printCounts prints how often each rule decided, the most frequent first.
func printCounts(out io.Writer, decision string, counts map[gateway.Rule]int) {
	rules := slices.SortedFunc(maps.Keys(counts), func(a, b gateway.Rule) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	for _, rule := range rules {
		fmt.Fprintf(out, "  %-6s  %-16s  %d\n", decision, rule, counts[rule])
	}
}

// inASCII returns s with everything escaped that a terminal might act on.
func inASCII(s string) string {
	quoted := strconv.QuoteToASCII(s)
	return quoted[1 : len(quoted)-1]
}
