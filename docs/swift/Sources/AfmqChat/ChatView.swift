#if canImport(SwiftUI)
    import SwiftUI
    #if canImport(UniformTypeIdentifiers)
        import UniformTypeIdentifiers
    #endif

    /// A prompt, the choice of an adapter, and the answer as it is generated.
    public struct ChatView: View {
        @State private var model = ChatModel()
        @State private var isChoosing = false

        public init() {}

        public var body: some View {
            VStack(alignment: .leading, spacing: 12) {
                HStack {
                    Button("Open model…") { isChoosing = true }
                        .disabled(model.phase == .loading || model.phase == .answering)
                    if model.phase == .loading { ProgressView() }
                    adapterPicker
                }
                ScrollView {
                    Text(model.answer)
                        .frame(maxWidth: .infinity, alignment: .leading)
                        .textSelection(.enabled)
                }
                if let message = model.message {
                    Text(message).foregroundStyle(.red)
                }
                HStack {
                    TextField("Prompt", text: $model.prompt)
                        .textFieldStyle(.roundedBorder)
                        .onSubmit { model.start() }
                    if model.phase == .answering {
                        Button("Stop") { model.stop() }
                    } else {
                        Button("Answer") { model.start() }
                            .disabled(!model.canAnswer)
                    }
                }
            }
            .padding()
            .fileImporter(isPresented: $isChoosing, allowedContentTypes: [.folder]) { result in
                if case .success(let url) = result { model.open(url) }
            }
        }

        private var adapterPicker: some View {
            Picker("Adapter", selection: $model.adapter) {
                Text("none").tag(String?.none)
                ForEach(model.adapters, id: \.self) { name in
                    Text(name).tag(String?.some(name))
                }
            }
            .disabled(model.phase != .ready)
        }
    }
#endif
