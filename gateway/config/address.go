package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// hostPort checks host:port and returns the host, which may be empty. Ports
// begin at low: 0 takes a free one, where the gateway listens.
func hostPort(s string, low uint64) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("%q is not host:port", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n < low {
		return "", fmt.Errorf("port %q is not a number from %d to 65535", port, low)
	}
	if strings.Contains(host, ":") {
		if _, err := netip.ParseAddr(host); err != nil {
			return "", fmt.Errorf("host %q is not an IPv6 address", host)
		}
	} else if strings.ContainsAny(host, "/@?#%\\ ") {
		return "", fmt.Errorf("host %q is neither a name nor an address", host)
	}
	return host, nil
}

// listen reads an address to listen on.
func (o object) listen(key, fallback string) string {
	address := o.text(key, fallback)
	if _, err := hostPort(address, 0); err != nil {
		o.errorf(o.place(key), "write 127.0.0.1:8080 for this machine alone, :8080 for all", "%q: %s", key, err)
		return fallback
	}
	return address
}

// upstream reads the address of the Moodle behind.
func (o object) upstream(key string) *url.URL {
	const hint = "write the address of the web server behind, such as http://127.0.0.1:8081, without a path"
	text := o.text(key, "")
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Opaque != "", u.Scheme != "http" && u.Scheme != "https":
		o.errorf(o.place(key), hint, "%q must be an http or https address", key)
		return nil
	case u.User != nil:
		o.errorf(o.place(key), hint, "%q has a user name in it", key)
		return nil
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		o.errorf(o.place(key), hint, "%q must end after host and port", key)
		return nil
	}
	withPort := u.Host
	if u.Port() == "" {
		withPort = strings.TrimSuffix(u.Host, ":") + ":80"
	}
	if host, err := hostPort(withPort, 1); err != nil || host == "" || strings.HasSuffix(u.Host, ":") {
		o.errorf(o.place(key), hint, "%q has no valid host and port", key)
		return nil
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}
}

// loops reports whether a request to the upstream would come back to the
// address that the gateway listens on.
func loops(listen string, upstream *url.URL) bool {
	host, port, err := net.SplitHostPort(listen)
	upstreamPort := upstream.Port()
	if upstreamPort == "" {
		upstreamPort = map[string]string{"http": "80", "https": "443"}[upstream.Scheme]
	}
	if err != nil || port != upstreamPort {
		return false
	}
	from, to := loopback(host), loopback(upstream.Hostname())
	return from == to || (from == "" || from == "0.0.0.0" || from == "::") && to == "127.0.0.1"
}

// loopback returns one spelling for the usual ones of this machine.
func loopback(host string) string {
	if host == "localhost" || host == "::1" {
		return "127.0.0.1"
	}
	return strings.ToLower(host)
}

// prefixes reads addresses and CIDR ranges.
func (o object) prefixes(key string) []netip.Prefix {
	const hint = "write an address, or a range such as 10.0.0.0/8 or 2001:db8::/32"
	var all []netip.Prefix
	for _, item := range o.list(key) {
		text, ok := o.plain(item, fmt.Sprintf("an entry of %q", key))
		if !ok {
			continue
		}
		prefix, err := netip.ParsePrefix(text)
		if addr, err2 := netip.ParseAddr(text); err2 == nil && addr.Zone() == "" {
			addr = addr.Unmap()
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		switch {
		case err != nil || prefix.Addr().Is4In6():
			o.errorf(item.at, hint, "%q is neither an address nor a range of addresses", text)
		case prefix != prefix.Masked():
			o.errorf(item.at, fmt.Sprintf("write %s, or %s for the one address", prefix.Masked(), prefix.Addr()),
				"%s is not the beginning of a range", text)
		default:
			if prefix.Bits() == 0 {
				o.warnf(item.at, "%s trusts everybody to say who the client is", text)
			}
			all = append(all, prefix)
		}
	}
	return all
}
