package config

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"jumpgate/gateway"
)

// Mail says what becomes of the links in the mails of a site.
type Mail struct {
	// Homes says at which home, a peer, the people of mail addresses are; nil
	// if nothing is said.
	Homes *gateway.MailHomes

	// Learn is the peers that are believed, when their people land, which mail
	// addresses these have; about nobody of whom Homes says something.
	Learn []*gateway.Peer

	// Relay is the mail server that Moodle gives its mails to; nil for none.
	Relay *MailRelay
}

// MailRelay is a mail server that changes links and gives the mails to another.
type MailRelay struct {
	Listen  string         // host:port
	Clients []netip.Prefix // who may send; nobody else

	Next MailServer // where all mails go

	MaxSize        int64 // of a mail, in bytes
	MaxConnections int   // at once
	Timeout        time.Duration
}

// MailServer is how to reach a mail server.
type MailServer struct {
	Address string     // host:port
	TLS     bool       // from the first byte on
	Trust   *ServerTLS // what its certificate must satisfy; nil for a public authority

	Username     string
	Password     Secret
	PasswordFile string // where Password was read from, or
	PasswordEnv  string // the environment variable
}

// URL returns smtp://host:port or smtps://host:port.
func (s MailServer) URL() string {
	u := url.URL{Scheme: "smtp", Host: s.Address}
	if s.TLS {
		u.Scheme = "smtps"
	}
	return u.String()
}

// Loopback reports whether the server is on this machine.
func (s MailServer) Loopback() bool {
	host, _, err := net.SplitHostPort(s.Address)
	return err == nil && gateway.LoopbackHost(host)
}

// Defaults of the relay.
const (
	DefaultMailListen      = "127.0.0.1:2525"
	DefaultMailMiB         = 50
	DefaultMailConnections = 100
	DefaultMailTimeout     = 5 * time.Minute // RFC 5321, section 4.5.3.2
)

type mailDoc struct {
	Homes []mailHomeDoc `yaml:"homes,omitempty"`
	Learn []string      `yaml:"learn,omitempty"`
	Relay *mailRelayDoc `yaml:"relay,omitempty"`
}

type mailHomeDoc struct {
	Home      string   `yaml:"home"`
	Addresses []string `yaml:"addresses"`
}

type mailRelayDoc struct {
	Listen         string        `yaml:"listen"`
	Clients        []string      `yaml:"clients"`
	Next           string        `yaml:"next"`
	TLS            *serverTLSDoc `yaml:"tls,omitempty"`
	Username       string        `yaml:"username,omitempty"`
	PasswordFile   string        `yaml:"password_file,omitempty"`
	PasswordEnv    string        `yaml:"password_env,omitempty"`
	MaxSizeMiB     int64         `yaml:"max_size_mib"`
	MaxConnections int           `yaml:"max_connections"`
	Timeout        string        `yaml:"timeout"`
}

func (m Mail) doc(site gateway.Wwwroot) *mailDoc {
	var d mailDoc
	if m.Homes != nil {
		for _, h := range m.Homes.Homes() {
			home := site
			if h.Home != nil {
				home = h.Home.Wwwroot
			}
			d.Homes = append(d.Homes, mailHomeDoc{Home: home.String(), Addresses: h.Entries})
		}
	}
	for _, home := range m.Learn {
		d.Learn = append(d.Learn, home.Wwwroot.String())
	}
	if r := m.Relay; r != nil {
		d.Relay = &mailRelayDoc{
			Listen: r.Listen, Clients: []string{}, Next: r.Next.URL(), Username: r.Next.Username, PasswordFile: r.Next.PasswordFile, PasswordEnv: r.Next.PasswordEnv,
			MaxSizeMiB: r.MaxSize >> 20, MaxConnections: r.MaxConnections, Timeout: duration(r.Timeout),
		}
		for _, prefix := range r.Clients {
			d.Relay.Clients = append(d.Relay.Clients, prefix.String())
		}
		d.Relay.TLS = r.Next.Trust.doc()
	}
	if d.Homes == nil && d.Learn == nil && d.Relay == nil {
		return nil
	}
	return &d
}

// mail reads what becomes of mails, for a site whose peers are known. The
// relays of all sites have addresses of their own.
func (o object) mail(c *Config, s *Site) Mail {
	v := o.get("mail")
	if v == nil {
		return Mail{}
	}
	o = o.object(v, `"mail"`, fieldsOf[mailDoc]())
	m := Mail{}
	for _, item := range o.list("homes") {
		if m.Homes == nil {
			m.Homes = &gateway.MailHomes{}
		}
		o.mailHome(item, m.Homes, s)
	}
	for _, item := range o.list("learn") {
		home, ok := o.mailPeer(item, "a home", s)
		switch {
		case ok && home == nil:
			o.errorf(item.at, "name the homes whose word counts; the site's own people never land", "%s is the site itself", s.Wwwroot)
		case ok && slices.Contains(m.Learn, home):
			o.errorf(item.at, "write it once", "%s is given twice", home.Wwwroot)
		case ok:
			m.Learn = append(m.Learn, home)
		}
	}
	if relay := o.get("relay"); relay != nil {
		m.Relay = o.mailRelay(relay, c)
	}
	if s.MNet.Off && (m.Homes != nil || m.Learn != nil) {
		o.warnf(v.at, "\"mail\" changes no links while MNet is switched off")
	}
	if m.Learn != nil && m.Relay == nil {
		o.warnf(o.place("learn"), `"learn": what is learned is for the relay, and there is none`)
	}
	return m
}

// mailPeer reads a home, which is a peer; it is nil for the site itself.
func (o object) mailPeer(v *value, what string, s *Site) (home *gateway.Peer, ok bool) {
	w, ok := o.wwwroot(v, what)
	if !ok || s.Peers == nil {
		return nil, false
	}
	if w == s.Wwwroot {
		return nil, true
	}
	switch home = s.Peers.Exact(w.String()); {
	case home == nil:
		o.errorf(v.at, "homes are peers: add it to peers first", "%s is not a peer of the site", w)
	case home.Application != gateway.Moodle:
		o.errorf(v.at, "leave it out: the links of its people stay as they are", "no link leads through %s: a Mahara wants a number in it that only it knows", w)
		home = nil
	}
	return home, home != nil
}

// mailHome reads a home and whose it is.
func (o object) mailHome(v *value, homes *gateway.MailHomes, s *Site) {
	o = o.object(v, "a home", fieldsOf[mailHomeDoc]())
	const hint = "home: the wwwroot of a peer (or of the site itself, for its own people), addresses: [example.edu, ada@example.org]"
	given := o.require("home", "a home", hint)
	given = o.require("addresses", "a home", hint) && given
	if !given {
		return
	}
	home, ok := o.mailPeer(o.get("home"), `"home"`, s)
	if !ok {
		return
	}
	for _, item := range o.list("addresses") {
		if text, ok := o.plain(item, "an address"); ok {
			if err := homes.Add(home, text); err != nil {
				o.errorf(item.at, "write an address, a domain (example.edu), or all domains below one (\"*.example.edu\"), each once", "%s", err)
			}
		}
	}
}

// mailRelay reads the relay.
func (o object) mailRelay(v *value, c *Config) *MailRelay {
	o = o.object(v, `"relay"`, fieldsOf[mailRelayDoc]())
	r := &MailRelay{
		Listen:         o.listen("listen", DefaultMailListen),
		Clients:        []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		MaxSize:        o.number("max_size_mib", DefaultMailMiB, 1, 1024) << 20,
		MaxConnections: int(o.number("max_connections", DefaultMailConnections, 1, 10000)),
		Timeout:        o.duration("timeout", DefaultMailTimeout),
	}
	if o.has("clients") {
		r.Clients = o.prefixes("clients")
	}
	if slices.ContainsFunc(r.Clients, func(p netip.Prefix) bool { return p.Bits() == 0 }) {
		o.errorf(o.place("clients"), "name the machines that run Moodle", "everybody might send mails through this server")
	}
	if _, port, _ := net.SplitHostPort(r.Listen); port != "0" {
		for _, other := range c.Sites {
			if taken := other.Mail.Relay; r.Listen == c.Listen || r.Listen == c.Admin || taken != nil && taken.Listen == r.Listen {
				o.errorf(o.place("listen"), "give each its own port", "something else listens on %s already", r.Listen)
				break
			}
		}
	}
	if o.require("next", `"relay"`, "next: the mail server that Moodle used so far, such as smtp://mail.example.org:25") {
		r.Next = o.mailServer(r.Listen)
	}
	return r
}

// mailServer reads where the relay sends mails.
func (o object) mailServer(listen string) MailServer {
	const hint = "write smtp://host:25, or smtps://host:465 for TLS from the first byte on"
	s := MailServer{Username: o.text("username", "")}
	s.Password, s.PasswordFile, s.PasswordEnv = o.secret("password_file", "password_env")
	if o.has("tls") {
		s.Trust = o.serverTLS(o.get("tls"))
	}
	text := o.text("next", "")
	if text == "" {
		return s
	}
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Scheme != "smtp" && u.Scheme != "smtps" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		o.errorf(o.place("next"), hint, "%q is not the address of a mail server", "next")
		return s
	}
	if u.User != nil {
		o.errorf(o.place("next"), "give username and password_file", "%q has a user name in it", "next")
		return s
	}
	port := "25"
	if s.TLS = u.Scheme == "smtps"; s.TLS {
		port = "465"
	}
	var ok bool
	if s.Address, ok = redisAddress(u.Host, port); !ok {
		o.errorf(o.place("next"), hint, "%q has no host, or a port that is not a number from 1 to 65535", "next")
		return s
	}
	if loops(listen, &url.URL{Scheme: "http", Host: s.Address}) {
		o.errorf(o.place("next"), "give the address of the mail server that Moodle used so far", "the next mail server is the relay itself")
	}
	if (s.Username == "") != (s.PasswordFile == "" && s.PasswordEnv == "") {
		o.errorf(o.place("next"), "give both, or neither", "a username and a password belong together")
	}
	if !s.TLS && s.Trust == nil && !s.Loopback() {
		o.warnf(o.place("next"), "mails go to %s without TLS unless it offers STARTTLS; with \"tls: {}\" it must", s.Address)
	}
	return s
}
