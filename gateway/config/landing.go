package config

import (
	"math"
	"slices"
	"time"

	"jumpgate/gateway"
)

// Landing says how learners of peers are logged in at a site.
type Landing struct {
	// By is who does it: LandingMoodle, LandingHeader, LandingOAuth2 or LandingJWT.
	By string

	// Names, for all but LandingMoodle, are those of the learners' accounts. No
	// two of the site's homes have learners with one name.
	Names gateway.AccountNames

	// What follows is for LandingHeader and LandingOAuth2.

	Token     Secret // of a web service that knows which accounts there are, and takes pictures; empty for none
	TokenFile string // where Token was read from, or
	TokenEnv  string // the environment variable

	// What follows is for LandingOAuth2.

	IssuerID         int64  // what Moodle calls the OAuth 2 service that is us; 0 if that is not known yet
	ClientID         string // what that calls itself
	ClientSecret     Secret // by which we know it
	ClientSecretFile string // where ClientSecret was read from, or
	ClientSecretEnv  string // the environment variable

	// What follows is for LandingJWT.

	Algorithm   string        // AlgorithmEdDSA or AlgorithmRS256
	SessionIdle time.Duration // of a session in which nothing is asked for
	SessionLife time.Duration // of any session; no less than SessionIdle
}

// Redeems reports whether the gateway itself redeems the tokens of those who land.
func (l Landing) Redeems() bool { return l.LogsIn() || l.By == LandingJWT }

// LogsIn reports whether it is the gateway that logs in, at a Moodle, those who land.
func (l Landing) LogsIn() bool { return l.By == LandingHeader || l.By == LandingOAuth2 }

// TakesPictures reports whether pictures of learners can be taken from their homes:
// Moodle takes one up from its web services alone.
func (l Landing) TakesPictures() bool {
	return l.LogsIn() && (l.TokenFile != "" || l.TokenEnv != "")
}

// Who logs in those who land.
const (
	LandingMoodle = "moodle" // Moodle itself, which has MNet
	LandingHeader = "header" // the gateway, by headers that Moodle's plugin auth_shibboleth reads
	LandingOAuth2 = "oauth2" // the gateway, as the OpenID provider of Moodle's plugin auth_oauth2
	LandingJWT    = "jwt"    // the gateway, which tells any application by signed assertions
)

// How assertions are signed.
const (
	AlgorithmEdDSA = "EdDSA" // Ed25519
	AlgorithmRS256 = "RS256"
)

type landingDoc struct {
	By        string `yaml:"by"`
	Names     string `yaml:"name,omitempty"`
	TokenFile string `yaml:"token_file,omitempty"`
	TokenEnv  string `yaml:"token_env,omitempty"`

	IssuerID         int64  `yaml:"issuer_id,omitempty"`
	ClientID         string `yaml:"client_id,omitempty"`
	ClientSecretFile string `yaml:"client_secret_file,omitempty"`
	ClientSecretEnv  string `yaml:"client_secret_env,omitempty"`

	Algorithm   string `yaml:"algorithm,omitempty"`
	SessionIdle string `yaml:"session_idle,omitempty"`
	SessionLife string `yaml:"session_life,omitempty"`
}

func (l Landing) doc() landingDoc {
	d := landingDoc{
		By: l.By, TokenFile: l.TokenFile, TokenEnv: l.TokenEnv,
		IssuerID: l.IssuerID, ClientID: l.ClientID, ClientSecretFile: l.ClientSecretFile, ClientSecretEnv: l.ClientSecretEnv,
	}
	if l.Redeems() {
		d.Names = l.Names.String()
	}
	if l.By == LandingJWT {
		d.Algorithm, d.SessionIdle, d.SessionLife = l.Algorithm, duration(l.SessionIdle), duration(l.SessionLife)
	}
	return d
}

// landing reads how learners of peers are logged in: a word, or a mapping with
// that word as "by".
func (o object) landing(issuer string) Landing {
	key := "landing"
	if v := o.get(key); v != nil && v.kind == scalar {
		o = object{report: o.report, at: v.at, fields: []field{{key: key, at: v.at, value: v}}}
	} else {
		o, key = o.sub(key, fieldsOf[landingDoc]()), "by"
	}
	l := Landing{By: o.choice(key, LandingMoodle, LandingMoodle, LandingHeader, LandingOAuth2, LandingJWT)}
	names := o.text("name", gateway.DefaultNames)
	l.Token, l.TokenFile, l.TokenEnv = o.secret("token_file", "token_env")
	l.assertions(o)
	l.provider(o)
	why := ""
	if l.By == LandingMoodle {
		why = ": Moodle itself logs learners in"
	}
	for _, key := range fieldsOf[landingDoc]() {
		if of := landingOf[key]; o.has(key) && (of != nil && !slices.Contains(of, l.By) || l.By == LandingMoodle && key != "by") {
			o.warnf(o.place(key), "%q does nothing with landing: %s%s", key, l.By, why)
		}
	}
	if l.By == LandingMoodle {
		return Landing{By: l.By}
	}
	if issuer == IssuerMoodle {
		what := "a Moodle without MNet"
		if l.By == LandingJWT {
			what = "an application that is no Moodle"
		}
		o.errorf(o.place(key), "say issuer: gateway, or leave landings to the Moodle that has MNet",
			"landing: %s is for %s, and with issuer: %s it is Moodle that speaks MNet", l.By, what, issuer)
	}
	var err error
	if l.Names, err = gateway.ParseAccountNames(names); err != nil {
		o.errorf(o.place("name"), "write "+gateway.DefaultNames+", in quotes; or, for exactly one home, "+gateway.PlainNames, "the names of accounts: %s", err)
	}
	return l
}

// landingOf says of a field which landings it is for, if not for all.
var landingOf = map[string][]string{
	"token_file": {LandingHeader, LandingOAuth2}, "token_env": {LandingHeader, LandingOAuth2},
	"issuer_id": {LandingOAuth2}, "client_id": {LandingOAuth2}, "client_secret_file": {LandingOAuth2}, "client_secret_env": {LandingOAuth2},
	"algorithm": {LandingJWT}, "session_idle": {LandingJWT}, "session_life": {LandingJWT},
}

const (
	// minClientSecret is the least of a client secret, in bytes: who guesses it and
	// a code learns who lands.
	minClientSecret = 16
	// DefaultClientID is what Moodle's OAuth 2 service calls itself.
	DefaultClientID = "moodle"
)

// provider reads what is for LandingOAuth2.
func (l *Landing) provider(o object) {
	if l.By != LandingOAuth2 {
		return
	}
	if l.IssuerID = o.number("issuer_id", 0, 1, math.MaxInt32); !o.has("issuer_id") {
		o.warnf(o.place("by"), "landing: %s lets nobody land without issuer_id, the number of the OAuth 2 service that is this gateway: "+
			"it is in the address of the page where Moodle edits it, id=N", l.By)
	}
	l.ClientID = o.text("client_id", DefaultClientID)
	l.ClientSecret, l.ClientSecretFile, l.ClientSecretEnv = o.secret("client_secret_file", "client_secret_env")
	switch {
	case l.ClientSecretFile == "" && l.ClientSecretEnv == "":
		o.errorf(o.place("client_secret_file"), "write a long random text into a file, such as that of: openssl rand -hex 32; it goes into Moodle's OAuth 2 service as well",
			"landing: %s needs client_secret_file or client_secret_env", l.By)
	case l.ClientSecret != "" && len(l.ClientSecret) < minClientSecret:
		o.errorf(o.place("client_secret_file"), "make a new one: openssl rand -hex 32", "the client secret is shorter than %d characters", minClientSecret)
	case l.TokenFile == "" && l.TokenEnv == "":
		o.errorf(o.place("token_file"), "give token_file, with the token of a web service that has core_user_get_users_by_field",
			"landing: %s takes a web service token, to know whether an account has the mail address of a learner", l.By)
	}
}

// assertions reads what is for LandingJWT.
func (l *Landing) assertions(o object) {
	algorithm := o.choice("algorithm", AlgorithmEdDSA, AlgorithmEdDSA, AlgorithmRS256)
	life := o.duration("session_life", DefaultSessionLife)
	idle := o.duration("session_idle", min(DefaultSessionIdle, life))
	switch {
	case life < minSession:
		o.errorf(o.place("session_life"), "learners come back by way of their home, which takes them a click", "\"session_life\" is less than %s", duration(minSession))
	case idle < minSession:
		o.errorf(o.place("session_idle"), "learners who read for a while ask for nothing", "\"session_idle\" is less than %s", duration(minSession))
	case idle > life:
		o.errorf(o.place("session_idle"), "leave it out, or make session_life longer", "\"session_idle\" is more than \"session_life\", %s", duration(life))
	}
	if l.By == LandingJWT {
		*l = Landing{By: l.By, Algorithm: algorithm, SessionIdle: idle, SessionLife: life}
	}
}

// autoAdd reads what becomes of a home's learners without an account.
func (o object) autoAdd(l Landing) gateway.AutoAdd {
	for _, key := range []string{"auto_add_remote_users", "import"} {
		if o.has(key) && l.By == LandingMoodle {
			o.warnf(o.place(key), "%q does nothing with landing: %s: Moodle itself decides", key, l.By)
		}
	}
	if !o.has("auto_add_remote_users") {
		return ""
	}
	known := []string{string(gateway.AutoAddCreate), string(gateway.AutoAddExisting), string(gateway.AutoAddAsk)}
	add := gateway.AutoAdd(o.choice("auto_add_remote_users", known[0], known...))
	if add.LooksUp() && l.By == LandingJWT {
		o.errorf(o.place("auto_add_remote_users"), "leave it out: the application itself decides whom it knows; access says who may come",
			"auto_add_remote_users: %s is for a Moodle, which can be asked who has an account, and not for landing: %s", add, l.By)
	}
	if add.LooksUp() && l.LogsIn() && l.TokenFile == "" && l.TokenEnv == "" {
		o.errorf(o.place("auto_add_remote_users"), "give the site landing: {by: "+l.By+", token_file: …} with the token of a web service that has core_user_get_users_by_field",
			"auto_add_remote_users: %s takes a web service token, to know who has an account", add)
	}
	return add
}

// imports reads which fields are taken from a home's learners.
func (o object) imports(l Landing) []string {
	fields := o.profile("import", gateway.ImportFields)
	switch {
	case !o.has("import") || fields != nil && !slices.Contains(fields, "picture") || l.TakesPictures():
	case l.By == LandingJWT:
		o.warnf(o.place("import"), "\"picture\" does nothing with landing: %s: an assertion holds no picture", l.By)
	case l.Redeems():
		o.warnf(o.place("import"), "\"picture\" does nothing without landing: {by: %s, token_file: …}: it is Moodle's web services that take one up", l.By)
	}
	return fields
}

// checkLanding looks whether the homes of a site go together. Those that are
// switched off count: one word brings them back.
func (s *Site) checkLanding(o object) {
	if !s.Landing.Redeems() || s.Peers == nil {
		return
	}
	var homes []gateway.Wwwroot
	for _, p := range s.Peers.Peers() {
		if p.Subscribes(gateway.ServiceSSOIDP) {
			homes = append(homes, p.Wwwroot)
		}
	}
	if len(homes) == 0 {
		o.warnf(o.place("landing"), "landing: %s lets nobody land: no peer has subscribe: [%s]", s.Landing.By, gateway.ServiceSSOIDP)
	}
	if s.Landing.By == LandingOAuth2 && !s.Wwwroot.IsZero() && s.Wwwroot.Scheme() != "https" && !s.Wwwroot.Loopback() {
		o.errorf(o.place("landing"), "give the site an https wwwroot, or use landing: header",
			"landing: %s needs an https wwwroot: Moodle speaks to no OAuth 2 service without TLS", s.Landing.By)
	}
	if s.Identity.MFA && s.Identity.Source == MoodleWeb {
		o.warnf(o.place("landing"), "landing: %s with mfa needs the identity source %s: Moodle's pages do not say whose a session is that waits for a factor", s.Landing.By, MoodleRedis)
	}
	for _, pair := range s.Landing.Names.Collisions(homes...) {
		hint := "if they are one site, make one address an alias of the other; if not, each needs a Moodle of its own here"
		if s.Landing.Names.String() == gateway.PlainNames {
			hint = "use names that tell them apart: " + gateway.DefaultNames
		}
		o.errorf(o.place("landing"), hint, "the names of accounts, %s, do not tell learners of %s (%s) from those of %s (%s)",
			s.Landing.Names, pair[0], s.peerPositions[pair[0]], pair[1], s.peerPositions[pair[1]])
	}
}
