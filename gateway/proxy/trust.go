package proxy

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Trust lists the networks of proxies in front of the gateway whose word
// about a client's address is believed. The zero Trust believes nobody.
type Trust []netip.Prefix

// Client returns the address of the client: that of the connection, unless it
// belongs to a trusted proxy; then X-Forwarded-For is walked from the right,
// through trusted hops only, and the first address that is not trusted is the
// client. A malformed entry stops the walk at the hop that reported it. IPv4
// inside IPv6 is unmapped and zones are removed. The result is not valid if
// the connection has no IP address, as with a Unix socket.
func (t Trust) Client(r *http.Request) netip.Addr {
	hop, err := netip.ParseAddrPort(r.RemoteAddr)
	client := plain(hop.Addr())
	if err != nil || !t.has(client) {
		return client
	}
	for _, line := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for more := true; more; {
			entry := line
			i := strings.LastIndexByte(line, ',')
			if more = i >= 0; more {
				line, entry = line[:i], line[i+1:]
			}
			addr, ok := parseHop(entry)
			if !ok {
				return client
			}
			if client = addr; !t.has(addr) {
				return client
			}
		}
	}
	return client
}

func (t Trust) has(addr netip.Addr) bool {
	return slices.ContainsFunc(t, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// parseHop reads an entry of X-Forwarded-For: an address, which some proxies
// put in brackets or write with a port.
func parseHop(s string) (netip.Addr, bool) {
	s = strings.Trim(s, " \t")
	if addr, err := netip.ParseAddr(s); err == nil {
		return plain(addr), true
	}
	if hop, err := netip.ParseAddrPort(s); err == nil {
		return plain(hop.Addr()), true
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		return plain(addr), err == nil && strings.HasSuffix(inner, "]") && addr.Is6()
	}
	return netip.Addr{}, false
}

func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// Direct reports whether a request comes straight from a trusted proxy, so
// that what that one says about it may be believed.
func (t Trust) Direct(r *http.Request) bool {
	hop, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && t.has(plain(hop.Addr()))
}
