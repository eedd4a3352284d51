package gateway_test

import (
	"testing"

	"jumpgate/gateway"
)

// TestWhatIsAProbeIsSaidOfEveryRule has every rule that there is: one that is
// added has to be thought about here.
func TestWhatIsAProbeIsSaidOfEveryRule(t *testing.T) {
	probes := map[gateway.Rule]bool{
		// Made to lead away.
		gateway.RuleControlByte: true, gateway.RuleBackslash: true, gateway.RuleTooManyLayers: true, gateway.RuleNoSlash: true,
		gateway.RuleSchemeRelative: true, gateway.RuleOpaque: true, gateway.RuleUserinfo: true, gateway.RuleForeignOrigin: true, gateway.RuleOutsidePath: true,
		// A link that was cut off, changed on its way, or is old; a page that is closed.
		gateway.RuleTooLong: false, gateway.RuleInvalidUTF8: false, gateway.RuleBadEscape: false, gateway.RulePathNotAllowed: false,
		gateway.RulePeerMissing: false, gateway.RulePeerMalformed: false, gateway.RulePeerConflict: false, gateway.RulePeerUnknown: false,
		gateway.RuleRepeated: false, gateway.RuleBadQuery: false, gateway.RuleQueryTooLong: false,
		// Nothing that a link says.
		gateway.RuleMNetOff: false, gateway.RulePeerOff: false, gateway.RulePeerExpired: false, gateway.RulePeerGrant: false,
		gateway.RuleNotNavigation: false, gateway.RuleNoCookie: false, gateway.RuleTooMany: false, gateway.RuleUpstreamLocation: false,
		gateway.RuleUnsigned: false, gateway.RuleSignatureMalformed: false, gateway.RuleSignatureKey: false, gateway.RuleSignatureInvalid: false,
		gateway.RuleSignatureOther: false, gateway.RuleSignatureExpired: false, gateway.RuleSignatureTooLong: false,
		gateway.RuleSignatureRevoked: false, gateway.RuleConfirmOver: false, gateway.RuleFormForeign: false,
		gateway.RuleRateUser: false, gateway.RuleRateAddress: false, gateway.RuleRatePeer: false,
	}
	for _, m := range gateway.Rules() {
		want, said := probes[m.Rule]
		if !said && !m.Allows && (m.About == gateway.AboutRequest || m.About == gateway.AboutTarget) {
			t.Errorf("%s: is it a probe?", m.Rule)
		}
		if got := m.Rule.Probe(); got != want {
			t.Errorf("%s: probe %v, want %v", m.Rule, got, want)
		}
	}
}
