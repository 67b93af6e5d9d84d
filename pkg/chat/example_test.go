package chat_test

import (
	"encoding/json"
	"fmt"
	"log"

	"afmq/pkg/chat"
)

func ExampleTemplate_Render() {
	template, err := chat.Parse("example", `{%- for m in messages -%}
<|{{ m.role }}|>{{ m.content }}{{ eos_token }}
{% endfor -%}
{{ '<|assistant|>' if add_generation_prompt }}`, map[string]string{"eos_token": "</s>"})
	if err != nil {
		log.Fatal(err)
	}
	var messages []chat.Message
	request := `[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]`
	if err := json.Unmarshal([]byte(request), &messages); err != nil {
		log.Fatal(err)
	}
	prompt, err := template.Render(messages, chat.RenderOptions{AddGenerationPrompt: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(prompt)
	// Output:
	// <|system|>Be brief.</s>
	// <|user|>Hello!</s>
	// <|assistant|>
}
