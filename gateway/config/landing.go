package config

import "jumpgate/gateway"

// Landing says how learners of peers are logged in at a site.
type Landing struct {
	// By is who does it: LandingMoodle or LandingHeader.
	By string

	// What follows is for LandingHeader.

	// Names are those of the learners' accounts. No two of the site's homes
	// have learners with one name.
	Names gateway.AccountNames

	Token     Secret // of a web service that knows which accounts there are; empty for none
	TokenFile string // where Token was read from, or
	TokenEnv  string // the environment variable
}

// Who logs in those who land.
const (
	LandingMoodle = "moodle" // Moodle itself, which has MNet
	LandingHeader = "header" // the gateway, by headers that Moodle's plugin auth_shibboleth reads
)

type landingDoc struct {
	By        string `yaml:"by"`
	Names     string `yaml:"name,omitempty"`
	TokenFile string `yaml:"token_file,omitempty"`
	TokenEnv  string `yaml:"token_env,omitempty"`
}

func (l Landing) doc() landingDoc {
	d := landingDoc{By: l.By, TokenFile: l.TokenFile, TokenEnv: l.TokenEnv}
	if l.By == LandingHeader {
		d.Names = l.Names.String()
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
	l := Landing{By: o.choice(key, LandingMoodle, LandingMoodle, LandingHeader)}
	names := o.text("name", gateway.DefaultNames)
	l.Token, l.TokenFile, l.TokenEnv = o.secret("token_file", "token_env")
	if l.By == LandingMoodle {
		for _, key := range []string{"name", "token_file", "token_env"} {
			if o.has(key) {
				o.warnf(o.place(key), "%q does nothing with landing: %s: Moodle itself logs learners in", key, l.By)
			}
		}
		return Landing{By: l.By}
	}
	if issuer == IssuerMoodle {
		o.errorf(o.place(key), "say issuer: gateway, or leave landings to the Moodle that has MNet",
			"landing: %s is for a Moodle without MNet, and with issuer: %s it is Moodle that speaks MNet", l.By, issuer)
	}
	var err error
	if l.Names, err = gateway.ParseAccountNames(names); err != nil {
		o.errorf(o.place("name"), "write "+gateway.DefaultNames+", in quotes; or, for exactly one home, "+gateway.PlainNames, "the names of accounts: %s", err)
	}
	return l
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
	if add.LooksUp() && l.By == LandingHeader && l.TokenFile == "" && l.TokenEnv == "" {
		o.errorf(o.place("auto_add_remote_users"), "give the site landing: {by: header, token_file: …} with the token of a web service that has core_user_get_users_by_field",
			"auto_add_remote_users: %s takes a web service token, to know who has an account", add)
	}
	return add
}

// checkLanding looks whether the homes of a site go together. Those that are
// switched off count: one word brings them back.
func (s *Site) checkLanding(o object) {
	if s.Landing.By != LandingHeader || s.Peers == nil {
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
	if s.Identity.MFA && s.Identity.Source == MoodleWeb {
		o.warnf(o.place("landing"), "landing: %s with mfa needs the identity source %s: Moodle's pages do not say whose a session is that waits for a factor", s.Landing.By, MoodleRedis)
	}
	for _, pair := range s.Landing.Names.Collisions(homes...) {
		hint := "use one gateway and one Moodle for each, or names that tell them apart: " + gateway.DefaultNames
		o.errorf(o.place("landing"), hint, "the names of accounts, %s, do not tell learners of %s (%s) from those of %s (%s)",
			s.Landing.Names, pair[0], s.peerPositions[pair[0]], pair[1], s.peerPositions[pair[1]])
	}
}
