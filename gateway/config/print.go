package config

import (
	"io"
	"strings"

	"github.com/goccy/go-yaml"

	"jumpgate/gateway"
)

// The documents are a configuration as it is written. Their yaml tags are the
// one list of the fields that a file may have: Load accepts no others.

type fileDoc struct {
	Listen         string    `yaml:"listen"`
	TLS            *tlsDoc   `yaml:"tls,omitempty"`
	Admin          adminDoc  `yaml:"admin"`
	Redis          redisDoc  `yaml:"redis"`
	TrustedProxies []string  `yaml:"trusted_proxies"`
	StateDir       string    `yaml:"state_dir"`
	Log            logDoc    `yaml:"log"`
	Limits         limitsDoc `yaml:"limits"`
	Audit          auditDoc  `yaml:"audit"`
	Sites          []siteDoc `yaml:"sites"`
}

type tlsDoc struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

type adminDoc struct {
	Listen string `yaml:"listen"`
}

type logDoc struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

type limitsDoc struct {
	PendingJumpsPerAddress int    `yaml:"pending_jumps_per_address"`
	PendingJumpsPerSite    int    `yaml:"pending_jumps_per_site"`
	JumpsPerUser           string `yaml:"jumps_per_user"`
	JumpsPerAddress        string `yaml:"jumps_per_address"`
	JumpsPerPeer           string `yaml:"jumps_per_peer"`
}

type auditDoc struct {
	Dir        string `yaml:"dir"`
	Fsync      string `yaml:"fsync"`
	Usernames  string `yaml:"usernames"`
	MaxSizeMiB int64  `yaml:"max_size_mib"`
	KeepDays   int64  `yaml:"keep_days"`
}

type redisDoc struct {
	URL          string        `yaml:"url,omitempty"` // read only: stands for addresses, database, username and tls
	Addresses    []string      `yaml:"addresses"`
	MasterName   string        `yaml:"master_name,omitempty"`
	Cluster      bool          `yaml:"cluster,omitempty"`
	Database     int           `yaml:"database"`
	Username     string        `yaml:"username,omitempty"`
	PasswordFile string        `yaml:"password_file,omitempty"`
	PasswordEnv  string        `yaml:"password_env,omitempty"`
	TLS          *serverTLSDoc `yaml:"tls,omitempty"`
}

// MarshalYAML writes the embedded Redis, which has no address, as its word.
func (d redisDoc) MarshalYAML() (any, error) {
	if len(d.Addresses) == 0 {
		return "embedded", nil
	}
	type plain redisDoc
	return plain(d), nil
}

type serverTLSDoc struct {
	CAFile      string `yaml:"ca_file,omitempty"`
	Certificate string `yaml:"certificate,omitempty"`
	Key         string `yaml:"key,omitempty"`
	ServerName  string `yaml:"server_name,omitempty"`
}

type siteDoc struct {
	Wwwroot         string       `yaml:"wwwroot"`
	Aliases         []string     `yaml:"aliases,omitempty"`
	Upstream        string       `yaml:"upstream"`
	UpstreamTimeout string       `yaml:"upstream_timeout"`
	Issuer          string       `yaml:"issuer"`
	Identity        identityDoc  `yaml:"identity"`
	Key             string       `yaml:"key,omitempty"`
	MNet            mnetDoc      `yaml:"mnet"`
	Redirects       redirectsDoc `yaml:"redirects"`
	Landing         landingDoc   `yaml:"landing"`
	Roam            *accessDoc   `yaml:"roam,omitempty"`
	UnsignedJumps   string       `yaml:"unsigned_jumps"`
	MaxLinkLife     string       `yaml:"max_link_life"`
	Bounce          string       `yaml:"bounce"`
	Mail            *mailDoc     `yaml:"mail,omitempty"`
	Peers           []peerDoc    `yaml:"peers"`
	PeersDir        string       `yaml:"peers_dir,omitempty"`
}

type mnetDoc struct {
	Dispatcher      string `yaml:"dispatcher"`
	TimestampWindow string `yaml:"timestamp_window"`
	KeyRotation     string `yaml:"key_rotation"`
	KeySecretFile   string `yaml:"key_secret_file,omitempty"`
	RegisterAll     bool   `yaml:"register_all,omitempty"`
}

type identityDoc struct {
	Source          string    `yaml:"source"`
	Cookie          string    `yaml:"cookie"`
	MnetLocalhostID int64     `yaml:"mnet_localhost_id"`
	MFA             bool      `yaml:"mfa"`
	SessionTimeout  string    `yaml:"session_timeout"`
	Redis           *redisDoc `yaml:"redis,omitempty"`
	Prefix          string    `yaml:"prefix,omitempty"`
	TouchSessions   bool      `yaml:"touch_sessions,omitempty"`
	TokenFile       string    `yaml:"token_file,omitempty"`
	TokenEnv        string    `yaml:"token_env,omitempty"`

	Issuer           string   `yaml:"issuer,omitempty"`
	ClientID         string   `yaml:"client_id,omitempty"`
	ClientSecretFile string   `yaml:"client_secret_file,omitempty"`
	ClientSecretEnv  string   `yaml:"client_secret_env,omitempty"`
	Scopes           []string `yaml:"scopes,omitempty"`
	Claims           *Claims  `yaml:"claims,omitempty"`
	UsernameStrip    string   `yaml:"username_strip,omitempty"`
	UsernamesFile    string   `yaml:"usernames_file,omitempty"`
	Session          string   `yaml:"session,omitempty"`
}

type accessDoc struct {
	Allow     *[]string `yaml:"allow,omitempty"`
	AllowFile string    `yaml:"allow_file,omitempty"` // read only: its names are among those of allow
	Deny      *[]string `yaml:"deny,omitempty"`
	DenyFile  string    `yaml:"deny_file,omitempty"` // likewise
}

type peerDoc struct {
	Wwwroot       string     `yaml:"wwwroot"`
	Aliases       []string   `yaml:"aliases,omitempty"`
	HostID        int        `yaml:"hostid,omitempty"`
	Name          string     `yaml:"name,omitempty"`
	Application   string     `yaml:"application"`
	Certificate   string     `yaml:"certificate,omitempty"`
	Fingerprint   string     `yaml:"fingerprint,omitempty"`
	Enabled       *bool      `yaml:"enabled,omitempty"`
	Expires       string     `yaml:"expires,omitempty"` // the last day
	AllowPaths    []string   `yaml:"allow_paths,omitempty"`
	DenyPaths     []string   `yaml:"deny_paths,omitempty"`
	Rate          string     `yaml:"rate,omitempty"`
	Publish       []string   `yaml:"publish"`
	Subscribe     []string   `yaml:"subscribe"`
	Export        *[]string  `yaml:"export,omitempty"`
	Roam          *accessDoc `yaml:"roam,omitempty"`
	Access        *accessDoc `yaml:"access,omitempty"`
	AutoAdd       string     `yaml:"auto_add_remote_users,omitempty"`
	Import        *[]string  `yaml:"import,omitempty"`
	RequireSigned bool       `yaml:"require_signed,omitempty"`
	InsecureHTTP  bool       `yaml:"insecure_http,omitempty"`
}

// The fields of what is read often.
var (
	redisFields     = fieldsOf[redisDoc]()
	serverTLSFields = fieldsOf[serverTLSDoc]()
	siteFields      = fieldsOf[siteDoc]()
	accessFields    = fieldsOf[accessDoc]()
	identityFields  = fieldsOf[identityDoc]()
	peerFields      = fieldsOf[peerDoc]()
)

// Print writes the configuration in effect as YAML that Load accepts: with
// the defaults filled in, the peers of each peers_dir among the site's peers,
// the usernames of files among the others, all file names absolute, and of
// secrets only where they come from.
func Print(w io.Writer, c *Config) error {
	doc := fileDoc{
		Listen:   c.Listen,
		Admin:    adminDoc{Listen: c.Admin},
		Redis:    c.Redis.doc(),
		StateDir: c.StateDir,
		Log:      logDoc{Level: strings.ToLower(c.Log.Level.String()), Format: c.Log.Format},
		Limits:   c.Limits.doc(),
		Audit:    c.Audit.doc(),
	}
	if c.TLS != nil {
		doc.TLS = &tlsDoc{Certificate: c.TLS.CertificateFile, Key: c.TLS.KeyFile}
	}
	if c.Admin == "" {
		doc.Admin.Listen = off
	}
	for _, prefix := range c.TrustedProxies {
		doc.TrustedProxies = append(doc.TrustedProxies, prefix.String())
	}
	for _, site := range c.Sites {
		doc.Sites = append(doc.Sites, site.doc(c))
	}
	b, err := yaml.MarshalWithOptions(doc, yaml.IndentSequence(true), yaml.UseLiteralStyleIfMultiline(true))
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

func (l Limits) doc() limitsDoc {
	return limitsDoc{
		PendingJumpsPerAddress: l.PendingJumpsPerAddress, PendingJumpsPerSite: l.PendingJumpsPerSite,
		JumpsPerUser: l.JumpsPerUser.String(), JumpsPerAddress: l.JumpsPerAddress.String(), JumpsPerPeer: l.JumpsPerPeer.String(),
	}
}

func (r *Redis) doc() redisDoc {
	d := redisDoc{
		Addresses: r.Addresses, MasterName: r.MasterName, Cluster: r.Cluster, Database: r.Database,
		Username: r.Username, PasswordFile: r.PasswordFile, PasswordEnv: r.PasswordEnv,
	}
	d.TLS = r.TLS.doc()
	return d
}

func (t *ServerTLS) doc() *serverTLSDoc {
	if t == nil {
		return nil
	}
	return &serverTLSDoc{CAFile: t.CAFile, Certificate: t.CertificateFile, Key: t.KeyFile, ServerName: t.ServerName}
}

func (s *Site) doc(c *Config) siteDoc {
	d := siteDoc{
		Wwwroot:         s.Wwwroot.String(),
		Upstream:        s.Upstream.String(),
		UpstreamTimeout: duration(s.UpstreamTimeout),
		Issuer:          s.Issuer,
		Identity:        s.Identity.doc(c),
		Key:             s.KeyFile,
		MNet:            s.MNet.doc(),
		Redirects:       s.Redirects.doc(),
		Landing:         s.Landing.doc(),
		Aliases:         texts(s.Aliases),
		Roam:            access(s.Roam),
		UnsignedJumps:   string(s.Unsigned),
		MaxLinkLife:     days(s.MaxLinkLife),
		Bounce:          s.Bounce,
		Mail:            s.Mail.doc(s.Wwwroot),
	}
	for _, p := range s.Peers.Peers() {
		peer := s.peerDoc(p)
		if peer.Export == nil {
			peer.Export = &gateway.ProfileFields
		}
		d.Peers = append(d.Peers, peer)
	}
	return d
}

func (m *MNet) doc() mnetDoc {
	d := mnetDoc{
		Dispatcher: strict, TimestampWindow: duration(m.TimestampWindow), KeyRotation: RotateManual,
		KeySecretFile: m.KeySecretFile, RegisterAll: m.RegisterAll,
	}
	if m.RotateKey {
		d.KeyRotation = RotateAuto
	}
	if m.Off {
		d.Dispatcher = off
	}
	return d
}

func (id *Identity) doc(c *Config) identityDoc {
	d := identityDoc{
		Source: id.Source, Cookie: id.Cookie, MnetLocalhostID: id.MnetLocalhostID, MFA: id.MFA,
		SessionTimeout: duration(id.SessionTimeout),
	}
	switch id.Source {
	case MoodleWeb:
		d.TokenFile, d.TokenEnv = id.TokenFile, id.TokenEnv
		return d
	case OIDC:
		p := id.OpenID
		d.Issuer, d.ClientID, d.ClientSecretFile, d.ClientSecretEnv = p.Issuer, p.ClientID, p.ClientSecretFile, p.ClientSecretEnv
		d.Scopes, d.Claims, d.Session = p.Scopes, &p.Claims, duration(p.Session)
		d.UsernameStrip, d.UsernamesFile = p.Usernames.Strip, p.UsernamesFile
		return d
	}
	d.Prefix, d.TouchSessions = id.Prefix, id.TouchSessions
	if id.Redis != c.Redis {
		redis := id.Redis.doc()
		d.Redis = &redis
	}
	return d
}

func (s *Site) peerDoc(p *gateway.Peer) peerDoc {
	d := peerDoc{
		Wwwroot:       p.Wwwroot.String(),
		Aliases:       texts(p.Aliases),
		HostID:        p.HostID,
		Name:          p.Name,
		Application:   string(p.Application),
		Certificate:   s.certificateFiles[p.Wwwroot],
		Expires:       p.LastDay(),
		AllowPaths:    p.AllowPaths,
		DenyPaths:     p.DenyPaths,
		Publish:       p.Publish,
		Subscribe:     p.Subscribe,
		Roam:          access(p.Roam),
		Access:        access(p.Access),
		AutoAdd:       string(p.AutoAdd),
		RequireSigned: p.RequireSigned,
		InsecureHTTP:  p.Wwwroot.Scheme() == "http" && !p.Wwwroot.Loopback(),
	}
	if p.Export != nil {
		d.Export = &p.Export
	}
	if p.Import != nil {
		d.Import = &p.Import
	}
	if p.Rate != nil {
		d.Rate = p.Rate.String()
	}
	if p.Off {
		d.Enabled = new(bool)
	}
	if p.Certificate != nil && d.Certificate == "" {
		d.Certificate = p.Certificate.PEM()
	}
	if !p.Fingerprint.IsZero() {
		d.Fingerprint = p.Fingerprint.String()
	}
	return d
}

func texts(names []gateway.Wwwroot) []string {
	var all []string
	for _, name := range names {
		all = append(all, name.String())
	}
	return all
}

// access returns nil for everybody.
func access(a gateway.Access) *accessDoc {
	if a == (gateway.Access{}) {
		return nil
	}
	return &accessDoc{Allow: entries(a.Allow), Deny: entries(a.Deny)}
}

// entries returns nil for no list, which is another thing than an empty one.
func entries(u *gateway.UserList) *[]string {
	if u == nil {
		return nil
	}
	all := u.Entries()
	return &all
}
