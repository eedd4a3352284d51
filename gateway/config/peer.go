package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"jumpgate/gateway"
)

// peerReader reads the peers of one site.
type peerReader struct {
	*report
	site  *Site
	names map[gateway.Wwwroot]place // wwwroots and aliases so far
	ids   map[int]place             // host ids so far
	peers []*gateway.Peer
}

// peers reads the peers of the site o and those of its peers_dir into s.
func (r *report) peers(o object, s *Site) {
	p := &peerReader{report: r, site: s, names: map[gateway.Wwwroot]place{}, ids: map[int]place{}}
	for _, v := range o.list("peers") {
		p.peer(v)
	}
	if s.PeersDir != "" {
		p.dir(o)
	}
	if len(p.peers) == 0 && len(r.errs) == 0 {
		r.warnf(o.place("wwwroot"), "%s has no peers: every jump will be refused", s.Wwwroot)
	}
	var err error
	if s.Peers, err = gateway.NewAllowlist(p.peers...); err != nil && len(r.errs) == 0 {
		r.errorf(o.place("peers"), "", "%s", err) // not reached: the peers were checked one by one
	}
}

// dir reads the files of a peers_dir, one peer each, in the order of names.
func (p *peerReader) dir(o object) {
	entries, err := os.ReadDir(p.site.PeersDir)
	if err != nil {
		hint := "a relative name is relative to the file that names it"
		if errors.Is(err, fs.ErrNotExist) {
			hint = "mkdir " + p.site.PeersDir
		}
		o.errorf(o.place("peers_dir"), hint, "cannot read %q: %s: %s", "peers_dir", p.site.PeersDir, reason(err))
		return
	}
	for _, entry := range entries {
		name := filepath.Join(p.site.PeersDir, entry.Name())
		src := &source{name: name, dir: p.site.PeersDir}
		switch ext := filepath.Ext(name); {
		case strings.HasPrefix(entry.Name(), "."):
			continue
		case ext == ".yml":
			p.warnf(place{src: src}, "not read: the name does not end in .yaml")
			continue
		case ext != ".yaml":
			continue
		}
		if src.text, err = readFile(name, maxFile, false); err != nil {
			p.errorf(place{src: src}, "a peer is a small file of its own", "cannot read the peer: %s", reason(err))
		} else if v, ok := parse(p.report, src); ok {
			p.peer(v)
		}
	}
}

// peer reads one peer.
func (p *peerReader) peer(v *value) {
	o := p.object(v, "a peer", peerFields)
	if v.kind != mapping || !o.require("wwwroot", "a peer", "wwwroot: the address of the other Moodle, as in its config.php") {
		return
	}
	if len(p.peers) == maxPeers {
		p.errorf(o.at, "split the site's peers among several gateways", "a site has more than %d peers", maxPeers)
		return
	}
	wwwroot, ok := p.wwwroot(o.get("wwwroot"), `"wwwroot"`)
	peer := &gateway.Peer{
		Wwwroot:     wwwroot,
		Name:        o.text("name", ""),
		HostID:      int(o.number("hostid", 0, 1, math.MaxInt32)),
		Application: gateway.Application(o.choice("application", string(gateway.Moodle), string(gateway.Moodle), string(gateway.Mahara))),
		AllowPaths:  o.paths("allow_paths", "allowed"),
		DenyPaths:   o.paths("deny_paths", "denied"),
		Rate:        o.ownRate(),
		Off:         o.has("enabled") && !o.flag("enabled"),
		Expires:     o.lastDay("expires"),
		Publish:     o.services("publish", gateway.ServiceSSOIDP),
		Subscribe:   o.services("subscribe", gateway.ServiceSSOSP),
		Export:      o.profile("export", gateway.ProfileFields),
		Roam:        o.access("roam"),
		Access:      o.access("access"),
		AutoAdd:     o.autoAdd(p.site.Landing),
		Import:      o.imports(p.site.Landing),

		RequireSigned: o.flag("require_signed"),
	}
	p.peers = append(p.peers, peer)
	p.site.peerPositions[wwwroot] = o.place("wwwroot").position()
	if p.site.Issuer == IssuerMoodle {
		if o.unguarded("roam", "access"); peer.Export != nil {
			o.unguarded("export")
		}
		if peer.RequireSigned {
			o.unguardedLinks("require_signed")
		}
	}
	insecure := o.flag("insecure_http")
	if ok {
		p.claim(wwwroot, o.place("wwwroot"))
		p.transport(o, wwwroot, insecure)
	}
	for _, item := range o.list("aliases") {
		if alias, ok := p.wwwroot(item, "an alias"); ok && p.claim(alias, item.at) {
			peer.Aliases = append(peer.Aliases, alias)
		}
	}
	if ok {
		p.pin(o, peer) // the certificate may name an alias
	}
	if id := peer.HostID; id != 0 {
		if first, taken := p.ids[id]; taken {
			o.errorf(o.place("hostid"), "each peer has its own id in Moodle's table mnet_host",
				"the host id %d is already taken (%s)", id, first.position())
		} else {
			p.ids[id] = o.place("hostid")
		}
	}
}

// claim takes a name, a wwwroot or an alias, for one peer.
func (p *peerReader) claim(w gateway.Wwwroot, at place) bool {
	if w == p.site.Wwwroot || slices.Contains(p.site.Aliases, w) {
		p.errorf(at, "peers are the other sites", "%s is the site itself", w)
		return false
	}
	if first, taken := p.names[w]; taken {
		p.errorf(at, "each wwwroot and alias may stand for one peer only, once", "%s is already a peer or an alias (%s)", w, first.position())
		return false
	}
	p.names[w] = at
	return true
}

// transport refuses a peer without TLS unless somebody takes the blame.
func (p *peerReader) transport(o object, w gateway.Wwwroot, insecure bool) {
	switch at := o.place("wwwroot"); {
	case w.Scheme() == "https" || w.Loopback():
	case !insecure:
		p.errorf(at, "use its https address; or, in a configuration file, say insecure_http: true for this peer and live with it",
			"%s has no TLS: anybody on the way could land as somebody else", w)
	default:
		p.warnf(at, "%s has no TLS (insecure_http): anybody on the way can land as somebody else", w)
		if !o.has("certificate") && !o.has("fingerprint") {
			p.warnf(at, "%s has neither certificate nor fingerprint, and none can be fetched safely without TLS", w)
		}
	}
}

// pin reads which certificate the peer must have.
func (p *peerReader) pin(o object, peer *gateway.Peer) {
	const hint = "openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE prints it; write it as SHA256:…"
	if text := o.text("fingerprint", ""); text != "" {
		var err error
		if peer.Fingerprint, err = gateway.ParseFingerprint(text); err != nil {
			o.errorf(o.place("fingerprint"), hint, "%s", err)
		} else if peer.Fingerprint.IsZero() {
			o.errorf(o.place("fingerprint"), hint, "the fingerprint is all zeros")
		}
	}
	v := o.get("certificate")
	if v == nil {
		return
	}
	text := []byte(v.text)
	if v.kind != scalar || !strings.HasPrefix(v.text, "-----BEGIN ") {
		file := o.path("certificate")
		if file == "" {
			return
		}
		var ok bool
		if text, ok = o.read("certificate", file); !ok {
			return
		}
		p.site.certificateFiles[peer.Wwwroot] = file
	}
	certificate, err := gateway.ParseCertificate(text)
	fetch := fmt.Sprintf("take the one that %s/mnet/publickey.php shows", peer.Wwwroot)
	switch {
	case err != nil:
		o.errorf(v.at, fetch, "cannot use the certificate of %s: %s", peer.Wwwroot, err)
	case !certificate.Names(peer.Names()...):
		o.errorf(v.at, fetch+", and check that the wwwroot is spelled as there",
			"the certificate does not name %s", peer.Wwwroot)
	case !peer.Fingerprint.IsZero() && certificate.Fingerprint() != peer.Fingerprint:
		o.errorf(o.place("fingerprint"), "ask the administrator of the peer which one is right",
			"the certificate's fingerprint is another one, %s", certificate.Fingerprint())
	default:
		peer.Certificate = certificate
	}
}

// paths reads prefixes of the paths below a wwwroot.
func (o object) paths(key, what string) []string {
	var all []string
	for _, item := range o.list(key) {
		text, ok := o.plain(item, "a path of "+strconv.Quote(key))
		if !ok {
			continue
		}
		const hint = "write the beginning of a path below the peer's wwwroot, such as /mod/forum/"
		switch {
		case !strings.HasPrefix(text, "/"):
			o.errorf(item.at, hint, "the %s path %q does not begin with a slash", what, text)
		case strings.ContainsAny(text, "?#\\% ") || strings.Contains(text, "//") || hasDots(text):
			o.errorf(item.at, hint, "the %s path %q is not plain: no query, fragment, escape, dot segment or double slash", what, text)
		default:
			all = append(all, text)
		}
	}
	return all
}

// lastDay reads a day, and returns when it is over in UTC; zero without it.
func (o object) lastDay(key string) time.Time {
	text := o.text(key, "")
	if text == "" {
		return time.Time{}
	}
	day, err := time.Parse(time.DateOnly, text)
	if err != nil {
		o.errorf(o.place(key), "write the last day as year, month and day: 2027-01-31", "%q must be a day, not %q", key, text)
		return time.Time{}
	}
	return day.AddDate(0, 0, 1)
}

// ownRate returns nil for a peer that has the rate of all.
func (o object) ownRate() *gateway.Rate {
	if !o.has("rate") {
		return nil
	}
	rate := o.rate("rate", off)
	return &rate
}

func hasDots(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// Services are the services that a peer may be granted.
var Services = []string{gateway.ServiceSSOIDP, gateway.ServiceSSOSP, gateway.ServiceMnetEnrol}

// services reads names of MNet services; without the field it is the usual
// one, with an empty list none.
func (o object) services(key, usual string) []string {
	if !o.has(key) {
		return []string{usual}
	}
	var all []string
	for _, item := range o.list(key) {
		text, ok := o.plain(item, "a service")
		if ok && !slices.Contains(Services, text) {
			o.errorf(item.at, "write one of: "+strings.Join(Services, ", "), "unknown service %q", text)
			ok = false
		}
		if ok && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}
