package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// Destination is an address that the Moodle behind may send a browser to,
// although it is neither the site's own nor a peer's: an origin, as
// https://login.example.org, with or without the beginning of a path; all hosts
// below a domain, as https://*.example.org; or all that a scheme of an app leads
// to, as moodlemobile:. Two Destinations are equal exactly if they mean the same.
//
// The zero Destination is none; only ParseDestination makes others.
type Destination struct {
	scheme string  // of an app, with its colon; then nothing else is set
	root   Wwwroot // origin and path
	below  bool    // hosts below that of root, and not the host itself
}

// unsafeSchemes run what is written in the address, lead into the browser or the
// machine itself, or open whatever page the rest of the address names: no page has
// to send anybody there.
var unsafeSchemes = []string{
	"about", "blob", "chrome", "data", "file", "filesystem", "ftp", "javascript", "jar", "resource", "vbscript", "view-source", "ws", "wss",
	"brave", "edge", "feed", "firefox", "googlechrome", "googlechromes", "intent", "microsoft-edge", "microsoft-edge-http", "microsoft-edge-https", "opera-http", "opera-https",
}

// ParseDestination reads an entry of redirects.allow as an administrator writes
// it, and repairs what ParseWwwroot repairs.
func ParseDestination(s string) (Destination, error) {
	scheme, rest, ok := cutScheme(s)
	scheme = strings.ToLower(scheme)
	web := scheme == "http" || scheme == "https"
	switch {
	case !ok:
		return Destination{}, fmt.Errorf("%q does not begin with a scheme, such as https", s)
	case web && !strings.HasPrefix(rest, "//"):
		return Destination{}, fmt.Errorf("%q has no host", s)
	case slices.Contains(unsafeSchemes, scheme):
		return Destination{}, fmt.Errorf("nobody may be sent to %q: the scheme is not safe", scheme+":")
	case !web && len(scheme) > maxScheme:
		return Destination{}, fmt.Errorf("the scheme is longer than %d bytes", maxScheme)
	case !web && rest != "":
		return Destination{}, fmt.Errorf("%q has something after the scheme of an app", s)
	case !web:
		return Destination{scheme: scheme + ":"}, nil
	}
	authority := before(rest[2:], "/")
	path := strings.TrimSuffix(rest[2+len(authority):], "/")
	switch {
	case strings.Contains(authority, "@"): // perhaps a password: not to be repeated
		return Destination{}, errors.New("the address has a user name before its host")
	case len(s) > maxWwwroot:
		return Destination{}, fmt.Errorf("the address is longer than %d bytes", maxWwwroot)
	}
	authority, below := strings.CutPrefix(authority, "*.")
	host, port, err := parseAuthority(scheme, authority)
	if err == nil {
		err = checkWwwrootPath(path)
	}
	if err == nil && below {
		err = checkDomain(host)
	}
	if err != nil {
		return Destination{}, fmt.Errorf("%q: %w", s, err)
	}
	origin := scheme + "://" + host + port
	return Destination{root: Wwwroot{s: origin + path, slash: len(origin)}, below: below}, nil
}

// checkDomain refuses domains below which anybody can have a host.
func checkDomain(host string) error {
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return errors.New("there are no hosts below an address")
	}
	if suffix, _ := publicsuffix.PublicSuffix(host); suffix == host || !strings.Contains(host, ".") {
		return fmt.Errorf("anybody can have a host below %s", host)
	}
	return nil
}

// String returns the entry in its one spelling.
func (d Destination) String() string {
	if d.scheme != "" || !d.below {
		return d.scheme + d.root.String()
	}
	scheme, rest, _ := strings.Cut(d.root.String(), "://")
	return scheme + "://*." + rest
}

// MarshalText writes the entry in JSON and YAML.
func (d Destination) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// covers reports whether a path at an origin is among those that d means, in
// whatever layer of escapes a server reads it.
func (d Destination) covers(to Wwwroot, path string) bool {
	switch {
	case d.scheme != "", d.root.Scheme() != to.Scheme():
		return false
	case d.below:
		if !strings.HasSuffix(to.Host(), "."+d.root.Host()) {
			return false
		}
	case d.root.Host() != to.Host():
		return false
	}
	return d.root.Path() == "" || staysWithin(path, d.root.Path())
}

// staysWithin reports whether a path is within a prefix, as browsers and servers
// may read it.
func staysWithin(path, prefix string) bool {
	layers := Layers(path, maxLayers+1)
	if len(layers) > maxLayers+1 {
		return false
	}
	narrowed := &Peer{AllowPaths: []string{prefix}}
	for _, layer := range layers {
		resolved, ok := resolveDots(layer)
		if !ok || strings.Contains(layer, `\`) || !narrowed.permits(layer, resolved) {
			return false
		}
	}
	return true
}
