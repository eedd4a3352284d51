// Package config turns a configuration file, or the flags of the command
// line, into checked values: whoever holds a *Config need not check anything
// again. Everything that is wrong is reported at once, each with the place
// where it was written and what to do about it.
package config

import (
	"crypto/tls"
	"log/slog"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"time"

	"jumpgate/gateway"
)

// Config is a whole configuration.
type Config struct {
	// File is the file it was read from; empty if it came from flags.
	File string

	// Listen is the host:port on which the gateway serves its sites.
	Listen string

	// TLS is the certificate that the gateway shows there; nil for plain
	// HTTP behind a web server that does the TLS.
	TLS *TLS

	// Admin is the host:port of health checks and metrics; empty for none.
	Admin string

	// Redis is where the gateway keeps its own state.
	Redis *Redis

	// TrustedProxies are the addresses whose X-Forwarded-For and
	// X-Forwarded-Proto headers are believed. Nobody else's are.
	TrustedProxies []netip.Prefix

	// StateDir is the directory, absolute, for what must outlive the
	// process and does not belong in Redis: the sites' keys.
	StateDir string

	// Log says how much is logged and how it looks.
	Log Log

	// Limits bound what strangers can make the gateway remember, and how often
	// anybody may jump.
	Limits Limits

	// Audit says how the trail of decisions is kept.
	Audit Audit

	// Sites are the Moodles that the gateway fronts: at least one, no two
	// with the same host, aliases included.
	Sites []*Site

	// Warnings are what an administrator should know although it works.
	Warnings []Warning
}

// TLS is a certificate with its key.
type TLS struct {
	CertificateFile string          // PEM, the chain included
	KeyFile         string          // PEM
	Certificate     tls.Certificate // both, loaded
}

// Log says how much is logged and how it looks.
type Log struct {
	Level  slog.Level
	Format string // FormatText or FormatJSON
}

// The formats of a log line.
const (
	FormatText = "text" // key=value
	FormatJSON = "json" // one object per line
)

// Limits bound what strangers can make the gateway remember, and how often
// anybody may jump. The first two count jumps that wait for a login; tokens are
// not among them and are never pushed out.
type Limits struct {
	PendingJumpsPerAddress int // of one client address (of one /64, for IPv6)
	PendingJumpsPerSite    int // of all clients together

	JumpsPerUser    gateway.Rate // of one learner
	JumpsPerAddress gateway.Rate // of one client address, as above
	JumpsPerPeer    gateway.Rate // to one peer that has no rate of its own
}

// Audit says how the trail of decisions is kept. Without Dir there is none,
// which no file can say.
type Audit struct {
	Dir           string // absolute
	Always        bool   // who waits for a decision waits until it is on disk
	HideUsernames bool   // under a secret
	MaxSize       int64  // of a file, in bytes
	Keep          time.Duration
}

// DefaultAudit is what a configuration that does not mention it has.
func DefaultAudit(stateDir string) Audit {
	return Audit{Dir: filepath.Join(stateDir, "audit"), MaxSize: DefaultAuditMiB << 20, Keep: DefaultAuditDays * day}
}

// Site is a Moodle that the gateway fronts.
type Site struct {
	// Wwwroot is the site's public address, as $CFG->wwwroot has it.
	Wwwroot gateway.Wwwroot

	// Aliases are former or second public addresses: requests to them are led
	// to the wwwroot, and what names them means the site. Their hosts are no
	// other site's.
	Aliases []gateway.Wwwroot

	// Upstream is where the Moodle behind answers: scheme and host[:port].
	Upstream *url.URL

	// UpstreamTimeout is how long Moodle may take until its answer begins.
	// The answer itself may take as long as it needs.
	UpstreamTimeout time.Duration

	// Issuer says who the site's MNet identity provider is: IssuerGateway or
	// IssuerMoodle.
	Issuer string

	// Identity says how the gateway learns who a browser's Moodle session
	// belongs to. With IssuerMoodle nobody asks.
	Identity Identity

	// KeyFile is a PEM pair, or a pair as Moodle stores it, to import as the
	// site's MNet key, once; empty for one that the gateway makes under
	// StateDir. Either lives there afterwards.
	KeyFile string

	// MNet says how the site speaks to its peers.
	MNet MNet

	// Redirects says where else the Moodle may send browsers.
	Redirects Redirects

	// Landing says how learners of peers are logged in.
	Landing Landing

	// Roam says which local users may jump; each peer has a say too.
	Roam gateway.Access

	// Unsigned says what becomes of jumps that a foreign page may have begun,
	// and whose links carry no good signature.
	Unsigned gateway.Unsigned

	// Bounce says what becomes of learners who are not logged in and ask for a
	// page: BounceOff, BounceChoose or BounceAuto.
	Bounce string

	// MaxLinkLife is how far ahead a signed link may expire, in whole days.
	MaxLinkLife time.Duration

	// Mail says what becomes of the links in the site's mails.
	Mail Mail

	// Peers are the remote hosts that learners may jump to: those of the
	// file in its order, then those of PeersDir by file name.
	Peers *gateway.Allowlist

	// PeersDir is a directory, absolute, with one file per peer; empty for
	// none. Its peers are among Peers.
	PeersDir string

	certificateFiles map[gateway.Wwwroot]string   // of peers, for Print
	peerPositions    map[gateway.Wwwroot]Position // of peers
}

// MNet says how a site speaks to its peers.
type MNet struct {
	// Off says that MNet is switched off: no peer is answered, no learner is
	// sent to one, and the site's Peers are closed.
	Off bool

	// TimestampWindow is how far the clock in a peer's message may be off,
	// in either direction.
	TimestampWindow time.Duration

	// RotateKey has a new key made before the current one ends.
	RotateKey bool

	// KeySecret is what new keys are sealed under on their way through Redis
	// to gateways that have another StateDir; empty for never. It was read
	// from KeySecretFile.
	KeySecret     Secret
	KeySecretFile string

	// RegisterAll lets every site that hands out the certificate of its own
	// keyswap become a peer, without any grant.
	RegisterAll bool
}

// Who makes the tokens that learners jump with.
const (
	IssuerGateway = "gateway" // the gateway itself
	IssuerMoodle  = "moodle"  // the Moodle behind, guarded by the gateway
)

// What becomes of learners who are not logged in and ask for a page.
const (
	BounceOff    = off      // Moodle's login page, as ever
	BounceChoose = "choose" // a page that asks where they come from
	BounceAuto   = "auto"   // they are sent home if that is remembered, else asked
)

// The identity sources.
const (
	MoodleRedis = "moodle-redis" // Moodle's PHP sessions in its Redis
	MoodleWeb   = "moodle-web"   // Moodle's own pages, asked with the browser's cookie
	OIDC        = "oidc"         // a login provider that speaks OpenID Connect
)

// Identity says how the gateway learns who a browser's Moodle session
// belongs to.
type Identity struct {
	Source          string // MoodleRedis, MoodleWeb or OIDC
	Cookie          string // name of Moodle's session cookie
	MnetLocalhostID int64  // Moodle's mnet_localhost_id: users of other hosts are remote
	MFA             bool   // sessions without their second factor are not logged in (tool_mfa)

	// SessionTimeout is Moodle's sessiontimeout, and the life of a session
	// at a peer where the learner does nothing.
	SessionTimeout time.Duration

	// What follows is for MoodleRedis.

	Redis         *Redis // where Moodle keeps its sessions; Config.Redis itself if it is the same
	Prefix        string // Moodle's session_redis_prefix
	TouchSessions bool   // a learner busy at a peer keeps the session here alive

	// What follows is for MoodleWeb.

	Token     Secret // of a Moodle web service; empty for none
	TokenFile string // where Token was read from, or
	TokenEnv  string // the environment variable

	// OpenID is the provider of the source OIDC; nil for the others.
	OpenID *OpenID
}

// Redis says how to reach a Redis.
type Redis struct {
	Embedded bool // inside this process; then nothing else is set

	// Addresses are host:port: one server, the seeds of a cluster, or the
	// sentinels of MasterName. One server may be the path of a Unix socket.
	Addresses  []string
	MasterName string // asks the sentinels for this master
	Cluster    bool   // Redis Cluster
	Database   int    // 0 to 15 on a stock server; always 0 in a cluster

	Username     string
	Password     Secret
	PasswordFile string // where Password was read from, or
	PasswordEnv  string // the environment variable

	TLS *ServerTLS // nil for a plain connection
}

// URL names a single server: "embedded", redis://host:port or unix:///path,
// without user, password, database and TLS. It is empty for sentinels and
// clusters, which have their Addresses.
func (r *Redis) URL() string {
	switch {
	case r.Embedded:
		return "embedded"
	case r.MasterName != "" || r.Cluster || len(r.Addresses) != 1:
		return ""
	case path.IsAbs(r.Addresses[0]):
		return (&url.URL{Scheme: "unix", Path: r.Addresses[0]}).String()
	}
	return (&url.URL{Scheme: "redis", Host: r.Addresses[0]}).String()
}

// ServerTLS is how to speak TLS to a Redis, or to a mail server.
type ServerTLS struct {
	CAFile          string      // PEM; empty for the system's authorities
	CertificateFile string      // PEM of a client certificate; empty for none
	KeyFile         string      // PEM of its key
	ServerName      string      // name in the server's certificate; empty for the address's
	Config          *tls.Config // all of it, loaded
}

// Secret is text that must not be shown. It prints as "[secret]"; convert it
// to a string to use it.
type Secret string

// String hides the secret.
func (Secret) String() string { return "[secret]" }

// GoString hides the secret from %#v.
func (Secret) GoString() string { return "[secret]" }

// MarshalText hides the secret from encoders.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Defaults of what a configuration leaves out. The listening addresses are
// loopback ones: what is reachable from outside is an administrator's choice.
const (
	DefaultListen          = "127.0.0.1:8080"
	DefaultAdmin           = "127.0.0.1:9180"
	DefaultStateDir        = "/var/lib/jumpgate"
	DefaultStateDirFlags   = "jumpgate-state" // without a file, in the working directory
	DefaultCookie          = "MoodleSession"
	DefaultUpstreamTimeout = 5 * time.Minute
	DefaultSessionTimeout  = 8 * time.Hour // Moodle's own default
	DefaultTimestampWindow = 5 * time.Minute
	DefaultLoginSession    = time.Hour
	DefaultMaxLinkLife     = 90 * day

	DefaultAuditMiB  = 64
	DefaultAuditDays = 400

	DefaultPendingJumpsPerAddress = 1000 // a school behind one address
	DefaultPendingJumpsPerSite    = 50000
	DefaultPendingJumpsEmbedded   = 10000 // per site, in the memory of the gateway

	DefaultJumpsPerUser    = "30/m"
	DefaultJumpsPerAddress = "600/m" // a school behind one address, when the lesson begins
	DefaultJumpsPerPeer    = off
)

// Bounds of what is read.
const (
	maxConfig   = 8 << 20 // of the file: 10,000 peers with everything filled in
	maxFile     = 1 << 20 // of each file that it names
	maxPeers    = 100000  // of one site
	maxDuration = 30 * day
	maxDays     = 400
)

const day = 24 * time.Hour
