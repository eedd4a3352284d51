package gateway

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Redirects decides where the answers of the Moodle behind a site may send a
// browser: to the site itself, to peers, and to what is allowed besides. It does
// not change once made, and may be used by many goroutines.
type Redirects struct {
	scheme string // of the site, against whose pages a browser reads addresses
	prefix string // wwwroot and slash
	own    []string
	peers  *Allowlist
	allow  []Destination
}

// NewRedirects returns what decides for a site, under all its names. login is
// the address of a login provider of the site, or empty.
func NewRedirects(site Wwwroot, aliases []Wwwroot, peers *Allowlist, login string, allow []Destination) *Redirects {
	r := &Redirects{scheme: site.Scheme(), prefix: site.String() + "/", own: []string{site.Origin()}, peers: peers, allow: allow}
	for _, alias := range aliases {
		r.own = append(r.own, alias.Origin())
	}
	if to, _, ok := r.read(login); ok {
		r.own = append(r.own, to.Origin())
	}
	return r
}

const (
	maxScheme    = 64   // no app has a longer one
	maxAuthority = 1024 // a host of 253 bytes, each escaped, and a port
)

// Outward is what was decided about an address.
type Outward struct {
	Allow bool
	Rule  Rule

	// Where names the address as far as it may be told: origin and path, without
	// names of users, query and fragment, which may hold secrets; of an address
	// with another scheme than http and https the scheme alone. Of one that cannot
	// be read it is what stands where a host belongs, byte by byte.
	Where string

	// Origin is the beginning of Where that tells one site or app from another;
	// empty if it cannot be read.
	Origin string
}

// Own reports whether an address is so plainly one of the site itself that
// nothing has to be read: below the wwwroot, or a path that begins with a letter.
// False says nothing.
func (r *Redirects) Own(address string) bool {
	if len(address) > 1 && address[0] == '/' {
		c := address[1] | 0x20
		return c >= 'a' && c <= 'z'
	}
	return strings.HasPrefix(address, r.prefix)
}

// Address decides about an address as the header fields Location and
// Content-Location have it. It reads it as a browser does (WHATWG URL standard,
// section 4.4), on a page of the site, and takes no address that it cannot read
// for an allowed one.
func (r *Redirects) Address(address string, now time.Time) Outward {
	if r.Own(address) {
		return Outward{Allow: true, Rule: RuleRedirectOwn}
	}
	address = stripped(address)
	scheme, rest, absolute := cutScheme(address)
	scheme = strings.ToLower(scheme)
	switch {
	// https:path is relative too, but not in a browser that has come by http.
	case !absolute && !twoSlashes(address):
		return Outward{Allow: true, Rule: RuleRedirectOwn} // relative
	case len(scheme) > maxScheme:
		return Outward{Rule: RuleRedirectMalformed, Where: scheme[:maxScheme]}
	case absolute && scheme != "http" && scheme != "https":
		out := Outward{Rule: RuleRedirectScheme, Where: scheme + ":", Origin: scheme + ":"}
		if slices.Contains(r.allow, Destination{scheme: scheme + ":"}) {
			out.Allow, out.Rule = true, RuleRedirectAllowed
		}
		return out
	}
	to, path, ok := r.read(address)
	if !ok {
		if !absolute {
			scheme, rest = r.scheme, address
		}
		host := authorityOf(rest)
		return Outward{Rule: RuleRedirectMalformed, Where: scheme + "://" + host[strings.LastIndexByte(host, '@')+1:]}
	}
	out := Outward{Rule: RuleRedirectForeign, Where: to.Origin() + path, Origin: to.Origin()}
	switch {
	case slices.Contains(r.own, to.Origin()):
		out.Allow, out.Rule = true, RuleRedirectOwn
	case r.peers.Covers(out.Where, now):
		out.Allow, out.Rule = true, RuleRedirectPeer
	case slices.ContainsFunc(r.allow, func(d Destination) bool { return d.covers(to, path) }):
		out.Allow, out.Rule = true, RuleRedirectAllowed
	}
	return out
}

// read returns origin and path of an address with a host. It reports false if
// there is none, or if its host is one that programs read differently.
func (r *Redirects) read(address string) (to Wwwroot, path string, ok bool) {
	scheme, rest, absolute := cutScheme(address)
	if scheme = strings.ToLower(scheme); !absolute {
		scheme, rest = r.scheme, address
	}
	if scheme != "http" && scheme != "https" {
		return Wwwroot{}, "", false
	}
	authority := authorityOf(rest)
	if strings.Contains(authority, "@") || len(authority) > maxAuthority {
		return Wwwroot{}, "", false
	}
	plain, ok := plainHost(authority)
	if !ok {
		return Wwwroot{}, "", false
	}
	host, port, err := parseAuthority(scheme, plain)
	if err != nil || len(host) > maxWwwroot {
		return Wwwroot{}, "", false
	}
	origin := scheme + "://" + host + port
	_, path, _ = strings.Cut(rest, authority) // which is not empty and begins after slashes alone
	return Wwwroot{s: origin, slash: len(origin)}, seenPath(before(path, "?#")), true
}

// authorityOf returns what stands between the slashes and the path.
func authorityOf(rest string) string { return before(strings.TrimLeft(rest, `/\`), `/\?#`) }

// plainHost returns an authority as a browser looks it up: the host in ASCII,
// without escapes, and no colon without a port.
func plainHost(authority string) (string, bool) {
	host, port, _ := strings.Cut(authority, ":")
	if strings.HasPrefix(authority, "[") {
		return strings.TrimSuffix(authority, ":"), true
	}
	if host = unescape(host); !utf8.ValidString(host) || strings.ContainsAny(host, ":[]") {
		return "", false
	}
	if strings.ContainsFunc(host, func(c rune) bool { return c >= utf8.RuneSelf }) {
		var err error
		if host, err = idna.Lookup.ToASCII(host); err != nil {
			return "", false
		}
	}
	if port != "" {
		host += ":" + port
	}
	return host, true
}

// seenPath returns a path as a browser shows it: dots resolved where they can be,
// and bytes escaped that have to be.
func seenPath(path string) string {
	if path = strings.ReplaceAll(path, `\`, "/"); path == "" {
		return "/"
	}
	if resolved, ok := resolveDots(path); ok {
		path = resolved
	}
	var b strings.Builder
	escape(&b, path, inPath)
	return strings.ReplaceAll(b.String(), " ", "%20")
}

// stripped removes what a browser removes from an address before it reads it.
func stripped(address string) string {
	address = strings.TrimFunc(address, func(c rune) bool { return c <= 0x20 })
	return strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(address)
}

func twoSlashes(s string) bool {
	return len(s) > 1 && (s[0] == '/' || s[0] == '\\') && (s[1] == '/' || s[1] == '\\')
}

// Refresh is Address for the header field Refresh. A value that only says when to
// load the same page again is one of our own; one that cannot be read is
// malformed, since browsers differ in how much of it they mind.
func (r *Redirects) Refresh(value string, now time.Time) Outward {
	address, ok := refreshAddress(value)
	if !ok {
		return Outward{Rule: RuleRedirectMalformed}
	}
	return r.Address(address, now)
}

const asciiSpace = " \t\n\f\r"

// refreshAddress takes the address out of a Refresh field (HTML standard, "shared
// declarative refresh steps").
func refreshAddress(value string) (string, bool) {
	s := strings.TrimLeft(value, asciiSpace)
	after := strings.TrimLeft(s, "0123456789.")
	switch {
	case after == "":
		return "", true // also for none at all
	case len(after) == len(s), !strings.ContainsRune(";,"+asciiSpace, rune(after[0])):
		return "", false
	}
	s = strings.TrimLeft(after, asciiSpace)
	if s != "" && (s[0] == ';' || s[0] == ',') {
		s = strings.TrimLeft(s[1:], asciiSpace)
	}
	if len(s) >= 3 && strings.EqualFold(s[:3], "url") {
		rest, ok := strings.CutPrefix(strings.TrimLeft(s[3:], asciiSpace), "=")
		if !ok {
			return s, true
		}
		s = strings.TrimLeft(rest, asciiSpace)
	} else if s != "" && (s[0]|0x20) == 'u' {
		return s, true
	}
	if s != "" && (s[0] == '"' || s[0] == '\'') {
		address, more, _ := strings.Cut(s[1:], s[:1])
		return address, strings.Trim(more, asciiSpace) == "" // or some browsers look for the last quote
	}
	return s, true
}
