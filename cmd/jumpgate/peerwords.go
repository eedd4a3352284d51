package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"unicode"

	"jumpgate/gateway"
	"jumpgate/gateway/mnet"
)

// Where things are in the menus of the peers. Moodle's texts are those of 4.5
// (source), Mahara's those of 23.04.
const (
	menuPeers  = "Site administration > Networking > Manage peers"
	menuMahara = "Administration > Institutions > the institution > its XML-RPC authentication"
)

// faultWords are the faults that an administrator can do something about
// (protocol page, section 8). PEER and US stand for the two sites.
var faultWords = map[int]struct{ meaning, hint string }{
	mnet.FaultUnknownPeer: {"it does not know US yet", "its administrator adds US, type Moodle, under " + menuPeers + "; where US has moved, they change Hostname of the old entry there instead"},
	6003:                  {"it does not know US yet", "its administrator adds US, application Moodle, under " + menuMahara},
	mnet.FaultBadSignature: {"it has another certificate of US than the current one",
		"its administrator opens US under " + menuPeers + " and saves the current key"},
	mnet.FaultNoCertificate: {"it has no certificate of US yet", "its administrator opens US under " + menuPeers + " and saves the current key"},
	mnet.FaultNotOpened: {"it cannot open our messages",
		"either its key has changed (jumpgate peer refresh PEER), or it is a Moodle on OpenSSL 3 without the legacy provider that MNet needs there"},
	mnet.FaultNewKey: {"it has a new key", "compare and take it over with jumpgate peer refresh PEER"},
	704:              {"it has networking switched off", "its administrator switches it on under Site administration > Networking > Settings"},
	6012:             {"it has networking switched off", "its administrator switches it on under Administration > Configure site > Network"},
}

// inWords says what the silence or refusal of a site means, and what to do
// about it.
func inWords(err error, site, us gateway.Wwwroot) error {
	named := strings.NewReplacer("PEER", site.String(), "US", us.String())
	if fault, ok := errors.AsType[*mnet.Fault](err); ok {
		code := fault.Code
		if code == mnet.FaultOther && strings.Contains(fault.String, "Cache definition core/string") {
			code = mnet.FaultUnknownPeer // Moodle 4.5 means it and trips over its own text
		}
		if words, ok := faultWords[code]; ok {
			return withHint(fmt.Errorf("%s answers that %s (fault %d)", site, named.Replace(words.meaning), fault.Code), named.Replace(words.hint))
		}
		return withHint(fmt.Errorf("%s refuses: %w", site, err), "the log of the peer may say more")
	}
	if errors.Is(err, mnet.ErrNotOpened) { // it seals its answers for a key that was ours
		return withHint(fmt.Errorf("%s has another certificate of %s than the current one: %w", site, us, err),
			named.Replace(faultWords[mnet.FaultBadSignature].hint))
	}
	if _, held := errors.AsType[*mnet.HeldKeyError](err); held || errors.Is(err, mnet.ErrBadSignature) {
		return withHint(err, named.Replace(faultWords[mnet.FaultNewKey].hint))
	}
	if moved, ok := errors.AsType[*mnet.MovedError](err); ok {
		const exactly = "MNet knows a site by exactly the $CFG->wwwroot of its config.php"
		if moved.To.IsZero() {
			return withHint(moved, exactly)
		}
		return withHint(moved, "did you mean "+moved.To.String()+"? "+exactly)
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return withHint(fmt.Errorf("there is no host %q (DNS)", site.Hostname()), "check the spelling of the address")
		}
		return withHint(fmt.Errorf("the DNS does not say where %q is: %w", site.Hostname(), dns), "try again, or repair the DNS of this machine")
	}
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return withHint(fmt.Errorf("the TLS certificate of %s is not valid: %s", site, strings.Map(visible, certificate.Err.Error())),
			"its administrator has to repair it: learners' browsers refuse it as well")
	}
	if refused, ok := errors.AsType[*net.OpError](err); ok {
		return withHint(fmt.Errorf("%s does not answer: %w", site, refused.Err), "check the address, and whether this machine may connect to it")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return withHint(fmt.Errorf("%s does not answer in time", site), "check the address, and whether this machine may connect to it")
	}
	if strings.Contains(err.Error(), "names another site") {
		return withHint(err, "MNet knows a site by exactly the $CFG->wwwroot of its config.php: http or https, with or without www")
	}
	return withHint(err, "MNet must be switched on at "+site.String()+" (Moodle: Site administration > Networking > Settings, and the authentication plugin MNet)")
}

// visible keeps what a stranger has written from steering the terminal.
func visible(r rune) rune {
	if unicode.IsPrint(r) || r == '\n' || r == '\t' {
		return r
	}
	return '?'
}
