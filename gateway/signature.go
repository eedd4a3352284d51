package gateway

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
)

// Unsigned says what becomes of a jump that a foreign page may have begun and
// whose link carries no good signature.
type Unsigned string

// What an administrator may say about unsigned jumps.
const (
	UnsignedAllow   Unsigned = "allow"   // it takes place
	UnsignedConfirm Unsigned = "confirm" // the learner is asked
	UnsignedRefuse  Unsigned = "refuse"
)

// Signature is what the signature of a jump link was found to be. The zero
// Signature is that of a link without one.
type Signature struct {
	// Rule is RuleOK for one that a peer made for this very link, else the
	// rule that says what is wrong with it.
	Rule Rule `json:"rule,omitempty"`
	// ID is the link's, by which it can be revoked.
	ID string `json:"jti,omitempty"`
	// Subject is the LinkSubject that the link was made for; empty for anybody.
	Subject string `json:"sub,omitempty"`
}

// Intact reports whether the link is as its signer made it.
func (s Signature) Intact() bool { return s.Rule == RuleOK }

// For reports whether the link was made for the user of one of these homes,
// which are names of one site.
func (s Signature) For(username string, names ...Wwwroot) bool {
	return s.Intact() && s.Subject != "" && slices.ContainsFunc(names, func(home Wwwroot) bool {
		return LinkSubject(home, username) == s.Subject
	})
}

// LinkSubject names the user of a home in a signed link: text that says
// nothing to those who do not know the name.
func LinkSubject(home Wwwroot, username string) string {
	sum := sha256.Sum256([]byte("jumpgate link subject\x00" + home.String() + "\x00" + username))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
