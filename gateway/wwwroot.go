package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Wwwroot names a Moodle or Mahara site: scheme, host, optional port and
// optional path, without a trailing slash, in the one spelling that a browser
// would show (lower-case ASCII host, no default port). MNet compares wwwroots
// as exact strings (protocol page, section 1), so two Wwwroots are equal
// exactly if they name the same site, and a Wwwroot may be a map key.
//
// The zero Wwwroot names no site; only ParseWwwroot makes others.
type Wwwroot struct {
	s     string // the whole of it
	slash int    // where the path begins in s, or len(s)
}

const maxWwwroot = 255 // Moodle's mnet_host.wwwroot column

// ParseWwwroot reads a wwwroot as an administrator or a peer writes it. It
// repairs what means the same to every browser (letter case of scheme and
// host, a default port, one trailing slash) and refuses everything else.
func ParseWwwroot(s string) (Wwwroot, error) {
	if s == "" {
		return Wwwroot{}, errors.New("wwwroot is empty")
	}
	if len(s) > maxWwwroot {
		return Wwwroot{}, fmt.Errorf("wwwroot is longer than %d bytes", maxWwwroot)
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if scheme = strings.ToLower(scheme); !ok || scheme != "http" && scheme != "https" {
		return Wwwroot{}, fmt.Errorf("wwwroot %q does not begin with http:// or https://", s)
	}
	authority, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], strings.TrimSuffix(rest[i:], "/")
	}
	if strings.Contains(authority, "@") { // perhaps a password: not to be repeated
		return Wwwroot{}, errors.New("wwwroot has a user name before its host")
	}
	host, port, err := parseAuthority(scheme, authority)
	if err != nil {
		return Wwwroot{}, fmt.Errorf("wwwroot %q: %w", s, err)
	}
	if err := checkWwwrootPath(path); err != nil {
		return Wwwroot{}, fmt.Errorf("wwwroot %q: %w", s, err)
	}
	whole := scheme + "://" + host + port + path
	return Wwwroot{s: whole, slash: len(whole) - len(path)}, nil
}

// String returns the wwwroot as it travels on the wire.
func (w Wwwroot) String() string { return w.s }

// IsZero reports whether w names no site.
func (w Wwwroot) IsZero() bool { return w.s == "" }

// Origin returns scheme, host and port: what a browser calls the origin.
func (w Wwwroot) Origin() string { return w.s[:w.slash] }

// Path returns the path below which the site lives: "" or "/moodle".
func (w Wwwroot) Path() string { return w.s[w.slash:] }

// Scheme returns "http" or "https".
func (w Wwwroot) Scheme() string {
	scheme, _, _ := strings.Cut(w.s, "://")
	return scheme
}

// Host returns host and, unless it is the default one, port.
func (w Wwwroot) Host() string {
	_, host, _ := strings.Cut(w.Origin(), "://")
	return host
}

// Hostname returns the host without port and brackets.
func (w Wwwroot) Hostname() string {
	host := w.Host()
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.Trim(host, "[]")
}

// Loopback reports whether the site can be reached from this machine alone.
// Names below localhost do not count: not every resolver keeps them at home.
func (w Wwwroot) Loopback() bool { return LoopbackHost(w.Hostname()) }

// LoopbackHost is Loopback for a host without port and brackets.
func LoopbackHost(name string) bool {
	if name == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.IsLoopback()
}

// CookieName returns the name of one of our own cookies for the site. It
// holds an id of the site, since cookies ignore ports and paths and two sites
// may share a host name. On https the prefix keeps other hosts of the domain
// from setting it (RFC 6265bis, section 4.1.3.2).
func (w Wwwroot) CookieName(what string) string {
	sum := sha256.Sum256([]byte(w.s))
	name := CookiePrefix + what + "-" + hex.EncodeToString(sum[:4])
	if w.Scheme() == "https" {
		name = "__Host-" + name
	}
	return name
}

// CookiePrefix begins the names of all our cookies, after "__Host-" if that
// is there. None of them ever reaches the Moodle behind.
const CookiePrefix = "jumpgate-"

// MarshalText and UnmarshalText let a Wwwroot travel in JSON and YAML.
func (w Wwwroot) MarshalText() ([]byte, error) { return []byte(w.s), nil }

// UnmarshalText is ParseWwwroot.
func (w *Wwwroot) UnmarshalText(b []byte) error {
	parsed, err := ParseWwwroot(string(b))
	if err == nil {
		*w = parsed
	}
	return err
}

// parseAuthority returns the host and, with its colon, a port that is not the
// default one, as a browser would serialise them. It refuses whatever Go and
// browsers (WHATWG URL) might read differently: userinfo, escapes, numeric
// host names other than dotted IPv4, raw non-ASCII.
func parseAuthority(scheme, authority string) (host, port string, err error) {
	host = authority
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		host, port = authority[:i], authority[i:]
		n, err := strconv.ParseUint(port[1:], 10, 16)
		if err != nil || n == 0 || port[1] == '0' {
			return "", "", fmt.Errorf("port %q is not a number from 1 to 65535", port[1:])
		}
	}
	if scheme == "http" && port == ":80" || scheme == "https" && port == ":443" {
		port = ""
	}
	host, err = parseHost(host)
	return host, port, err
}

func parseHost(host string) (string, error) {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !addr.Is6() || addr.Is4In6() || addr.Zone() != "" || inner == strings.TrimSuffix(inner, "]") {
			return "", fmt.Errorf("host %q is not an IPv6 address", host)
		}
		return "[" + addr.String() + "]", nil
	}
	host = strings.ToLower(host)
	for label := range strings.SplitSeq(host, ".") {
		if err := checkLabel(label); err != nil {
			return "", fmt.Errorf("host %q: %w", host, err)
		}
	}
	// A browser takes a host whose last label is a number for an IPv4
	// address, in any of its spellings; only the usual one is accepted.
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last[0] >= '0' && last[0] <= '9' {
		addr, err := netip.ParseAddr(host)
		if err != nil || addr.String() != host {
			return "", fmt.Errorf("host %q is neither a name nor an IPv4 address", host)
		}
	}
	if strings.Contains(host, "xn--") {
		if ascii, err := idna.Lookup.ToASCII(host); err != nil || ascii != host {
			return "", fmt.Errorf("host %q is not a valid internationalised name", host)
		}
	}
	return host, nil
}

func checkLabel(label string) error {
	if label == "" || len(label) > 63 {
		return errors.New("a label of the name is empty or too long")
	}
	for i := range len(label) {
		switch c := label[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_':
		case c == '-' && i > 0 && i < len(label)-1:
		default:
			return fmt.Errorf("character %q is not allowed in a host name", c)
		}
	}
	return nil
}

func checkWwwrootPath(path string) error {
	if path == "" {
		return nil
	}
	for segment := range strings.SplitSeq(path[1:], "/") {
		if segment == "" || segment == "." || segment == ".." {
			return fmt.Errorf("path %q has an empty or dot segment", path)
		}
		for i := range len(segment) {
			switch c := segment[i]; {
			case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			case c == '-', c == '_', c == '.', c == '~':
			default:
				return fmt.Errorf("character %q is not allowed in the path of a wwwroot", c)
			}
		}
	}
	return nil
}
