#if canImport(SwiftUI)
    import AfmqGeneration
    import AfmqRuntime
    import Foundation
    import Observation

    /// The state of the chat window.
    @MainActor @Observable
    final class ChatModel {
        enum Phase: Equatable {
            case empty
            case loading
            case ready
            case answering
        }

        private(set) var phase = Phase.empty
        private(set) var answer = ""
        private(set) var message: String?
        private(set) var adapters: [String] = []
        var adapter: String?
        var prompt = ""

        private var model: TextModel?
        private var opened: URL?
        private var task: Task<Void, Never>?

        var canAnswer: Bool { phase == .ready && !prompt.isEmpty }

        /// Opens a folder with a model.
        func open(_ url: URL) {
            task?.cancel()
            phase = .loading
            message = nil
            model = nil  // its memory is needed
            // A folder that the user chose is readable between these two calls. The framework may
            // read it as long as the model lives.
            opened?.stopAccessingSecurityScopedResource()
            opened = url.startAccessingSecurityScopedResource() ? url : nil
            task = Task {
                do {
                    let model = try await TextModel(ModelFolder(url))
                    self.model = model
                    adapters = model.adapters
                    adapter = nil
                    phase = .ready
                } catch {
                    message = error.localizedDescription
                    phase = .empty
                }
            }
        }

        /// Answers the prompt with the chosen adapter.
        func start() {
            guard canAnswer, let model else { return }
            answer = ""
            message = nil
            phase = .answering
            task = Task {
                do {
                    let pieces = try model.answer(
                        to: prompt, adapter: adapter, chat: model.hasChatTemplate,
                        options: GenerationOptions(maxTokens: 512))
                    for try await piece in pieces { answer += piece }
                } catch {
                    message = error.localizedDescription
                }
                phase = .ready
            }
        }

        /// Ends the answer where it is.
        func stop() { task?.cancel() }
    }
#endif
