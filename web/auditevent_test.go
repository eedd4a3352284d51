package web

import (
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"jumpgate/gateway"
	"jumpgate/gateway/audit"
	"jumpgate/idp"
)

func TestAQuestionIsAnEventAndSoIsWhatTheLinkWasWorth(t *testing.T) {
	site := straySite(t)
	h := &Handler{}
	a := idp.Answer{
		Username: "ada", Wantsurl: "/mod/x", Origin: gateway.OriginCross,
		Signature: gateway.Signature{Rule: gateway.RuleSignatureRevoked, ID: "j1"}, Confirm: &idp.Confirmation{Ticket: "secret", Name: "Ada"},
	}
	got := h.event(httptest.NewRequest("GET", "https://home.test/auth/mnet/jump.php", nil), site, "return", outcomeOf(a), a, time.Now())
	want := audit.Event{
		Kind: audit.KindDecision, Site: site.Wwwroot.String(), Client: "192.0.2.1", Step: "return", User: "ada", Target: "/mod/x",
		Decision: audit.Ask, Outcome: "confirm", Issuer: "gateway", Origin: "cross-site", Signature: "signature-revoked", Link: "j1",
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(audit.Event{}, "Latency")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
